//! Which addresses may be contacted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::FetchError;
use crate::singleflight::SingleFlight;

/// Whether `ip` reaches this machine, its link or a group rather than one host: loopback,
/// link-local (cloud metadata services are there), unspecified, multicast, broadcast; also
/// where an IPv6 address embeds such an IPv4 one. Private ranges are not special: registries
/// live there.
pub(super) fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_special_v4(ip),
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || embedded_v4(ip).is_some_and(is_special_v4)
        }
    }
}

fn is_special_v4(ip: Ipv4Addr) -> bool {
    ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        // "This network" (RFC 1122, section 3.2.1.3); 0.0.0.0 reaches this machine.
        || ip.octets()[0] == 0
}

/// The IPv4 address inside an IPv4-mapped (`::ffff:0:0/96`), IPv4-compatible (`::/96`) or NAT64
/// (`64:ff9b::/96`, RFC 6052) address.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = ip.segments();
    let embeds = matches!([a, b, c, d, e, f], [0, 0, 0, 0, 0, 0 | 0xffff])
        || [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
    embeds.then(|| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

/// Whether the host is literally `localhost` or a loopback address.
pub(crate) fn is_loopback_literal<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref() == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

/// A host at an address that is not contacted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at {address}, which is contacted only where it is configured literally")]
pub(super) struct Forbidden {
    pub(super) host: String,
    pub(super) address: String,
}

/// Which of the special addresses one endpoint may contact: those its configuration names.
#[derive(Debug, Clone)]
pub(super) struct AddressRules {
    configured: Vec<Host>,
    proxies: Vec<String>,
}

impl AddressRules {
    /// `configured` are the hosts that the endpoint's configuration names.
    pub(super) fn new(configured: Vec<Host>) -> Self {
        Self { configured, proxies: proxies_of_environment() }
    }

    /// Checks an URL's host before anything is sent: literal addresses never reach the resolver.
    pub(super) fn check(&self, url: &Url) -> Result<(), FetchError> {
        let Some(host) = url.host() else {
            return Err(FetchError::InvalidPath(url.to_string()));
        };
        let special = match host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(ip) => is_special(ip.into()),
            Host::Ipv6(ip) => is_special(ip.into()),
        };
        if special && !self.names(&host) {
            let host = host.to_string();
            return Err(FetchError::ForbiddenAddress { address: host.clone(), host });
        }
        Ok(())
    }

    /// Checks an address that `name` resolved to.
    fn check_resolved(&self, name: &str, ip: IpAddr) -> Result<(), Forbidden> {
        let localhost = name == "localhost" && self.names(&Host::Domain(name));
        // A proxy is what the environment says it is. Its name passes here, not in `check`.
        let proxy = self.proxies.iter().any(|proxy| proxy == name);
        if !is_special(ip) || proxy || (localhost && ip.is_loopback()) {
            return Ok(());
        }
        Err(Forbidden { host: name.to_owned(), address: ip.to_string() })
    }

    fn names(&self, host: &Host<&str>) -> bool {
        self.configured.iter().any(|configured| configured == &host.to_owned())
    }
}

/// The names of the proxies that the environment configures.
fn proxies_of_environment() -> Vec<String> {
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .filter_map(|proxy| proxy_host(&proxy))
        .collect()
}

/// The host of a proxy written as an URL or as `host:port`.
fn proxy_host(proxy: &str) -> Option<String> {
    let url = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    Some(Url::parse(&url).ok()?.host_str()?.to_owned())
}

/// The system's resolver. Each of its look-ups keeps a thread until the name servers have answered
/// or have been waited for, whoever still wants to know: so a name is looked up once at a time, and
/// one whose name servers hang takes one thread and not all.
#[derive(Debug, Default)]
pub(super) struct SystemResolver {
    lookups: SingleFlight<String, Result<Vec<SocketAddr>, Unresolved>>,
}

impl SystemResolver {
    /// The one of this process: a name that hangs takes one thread however many endpoints want it.
    pub(super) fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<SystemResolver>> = LazyLock::new(Arc::default);
        Arc::clone(&SHARED)
    }
}

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Unresolved(String);

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = self.lookups.clone();
        Box::pin(async move {
            let wanted = name.as_str().to_owned();
            let lookup = move || async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await;
                found.map(Iterator::collect).map_err(|error| Unresolved(error.to_string()))
            };
            let addresses: Vec<_> = lookups.run(wanted, lookup).await??;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// A resolver whose answers are checked; the connection is made to exactly the checked
/// addresses, so a second DNS answer cannot differ.
///
/// Where the environment configures a proxy, the proxy resolves the names and its own rules
/// have to hold for them: only the proxy's name is resolved here.
pub(super) struct GuardedResolver {
    rules: Arc<AddressRules>,
    inner: Arc<dyn Resolve>,
}

impl GuardedResolver {
    pub(super) fn new(rules: AddressRules, inner: Arc<dyn Resolve>) -> Self {
        Self { rules: Arc::new(rules), inner }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.rules.clone();
        let host = name.as_str().to_owned();
        let answer = self.inner.resolve(name);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = answer.await?.collect();
            // One bad address spoils the answer: an honest zone has none.
            for address in &addresses {
                rules.check_resolved(&host, address.ip())?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::Instant;

    use super::*;
    use crate::http::{Ask, Endpoint, EndpointConfig};

    #[test]
    fn r5_special_addresses_are_told_from_ordinary_ones() {
        for special in [
            "127.0.0.1",
            "127.8.9.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "::ffff:0.0.0.0",
        ] {
            assert!(is_special(special.parse().expect(special)), "{special}");
        }
        for ordinary in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "203.0.113.9",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ] {
            assert!(!is_special(ordinary.parse().expect(ordinary)), "{ordinary}");
        }
    }

    fn rules(configured: &[&str]) -> AddressRules {
        let configured = configured.iter().map(|host| Host::parse(host).expect("a host"));
        AddressRules { configured: configured.collect(), proxies: vec!["proxy.example".into()] }
    }

    #[test]
    fn r5_literal_addresses_are_refused_unless_configured() {
        let check = |rules: &AddressRules, url: &str| rules.check(&url.parse().expect(url)).is_ok();
        let none = rules(&["registry.example.com"]);
        for url in [
            "https://localhost/",
            "https://LOCALHOST:5000/",
            "https://127.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "https://0/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(!check(&none, url), "{url}");
        }
        assert!(check(&none, "https://10.0.0.1:6443/"));
        assert!(check(&rules(&["localhost"]), "https://localhost:5000/"));
        assert!(!check(&rules(&["localhost"]), "https://127.0.0.1:5000/"));
        assert!(check(&rules(&["127.0.0.1"]), "https://127.0.0.1:5000/"));
        assert!(!check(&rules(&["127.0.0.1"]), "https://127.0.0.2:5000/"));
        // The proxy's exemption is not for URLs that name special addresses themselves.
        assert!(!check(&rules(&["proxy.example"]), "https://localhost/"));
    }

    #[test]
    fn r5_names_that_resolve_to_special_addresses_are_refused() {
        let check = |configured: &[&str], name: &str, ip: &str| {
            rules(configured).check_resolved(name, ip.parse().expect(ip)).is_ok()
        };
        assert!(!check(&["evil.example"], "evil.example", "127.0.0.1"));
        assert!(!check(&["evil.example"], "evil.example", "::ffff:169.254.169.254"));
        assert!(!check(&["localhost"], "localhost.", "127.0.0.1"));
        assert!(!check(&["localhost"], "a.localhost", "127.0.0.1"));
        assert!(!check(&["localhost"], "localhost", "169.254.169.254"));
        assert!(!check(&["registry.example"], "localhost", "127.0.0.1"));
        assert!(check(&["localhost"], "localhost", "::1"));
        assert!(check(&["registry.example"], "registry.example", "10.1.2.3"));
        assert!(check(&["registry.example"], "proxy.example", "127.0.0.1"));
    }

    #[tokio::test]
    async fn k10_a_name_is_looked_up_once_at_a_time() {
        let resolver = SystemResolver::default();
        let (started, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, open) = (Arc::clone(&started), Arc::clone(&gate));
        // As name servers that hang keep it.
        let hanging = resolver.lookups.run("hangs.example".to_owned(), move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            open.notified().await;
            Err(Unresolved("no answer".to_owned()))
        });
        let wanting = async {
            let lookups = (0..1000).map(|_| resolver.resolve("hangs.example".parse().expect("a")));
            let mut lookups: Vec<_> = lookups.collect();
            for lookup in &mut lookups {
                assert!(futures_util::poll!(lookup).is_pending());
            }
            let other = resolver.resolve("localhost".parse().expect("a name")).await;
            assert!(other.is_ok(), "another name does not wait");
            gate.notify_one();
            for lookup in lookups {
                assert_eq!(lookup.await.err().expect("none").to_string(), "no answer");
            }
        };
        let (hung, ()) = tokio::join!(hanging, wanting);
        assert!(hung.is_ok_and(|found| found.is_err()));
        assert_eq!(started.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn k10_endpoints_share_a_look_up() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let gate = Arc::new(Notify::new());
        let open = Arc::clone(&gate);
        let shared = SystemResolver::shared();
        let hanging = shared.lookups.run("hangs.invalid".to_owned(), move || async move {
            open.notified().await;
            Ok(vec![SocketAddr::from(([169, 254, 1, 1], 0))])
        });
        let get = async |port: u16| {
            let base: Url = format!("https://hangs.invalid:{port}/").parse().expect("an URL");
            let (ca_pem, credentials, token_hosts) = (None, None, Vec::new());
            let config = EndpointConfig { base, ca_pem, credentials, token_hosts };
            let endpoint = Endpoint::new(config).expect("an endpoint");
            let deadline = Instant::now() + Duration::from_secs(5);
            let ask = Ask { accept: None, scope: None, max_bytes: 9, room: None, deadline };
            endpoint.get("/", &ask).await.map(|_| ())
        };
        let opening = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            gate.notify_one();
        };
        let (_, first, second, ()) = tokio::join!(hanging, get(443), get(5000), opening);
        let (host, address) = ("hangs.invalid".to_owned(), "169.254.1.1".to_owned());
        assert_eq!(first, Err(FetchError::ForbiddenAddress { host, address }));
        assert_eq!(second, first);
    }

    #[test]
    fn proxies_are_read_with_and_without_a_scheme() {
        assert_eq!(proxy_host("http://u:p@Proxy.example:3128/"), Some("proxy.example".into()));
        assert_eq!(proxy_host("proxy.example:3128"), Some("proxy.example".into()));
        assert_eq!(proxy_host(""), None);
    }
}
