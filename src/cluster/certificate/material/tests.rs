use super::*;

const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

fn names() -> BTreeSet<String> {
    ["countersign.system.svc", "countersign.system"].map(str::to_owned).into()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn later(days: u64) -> Timestamp {
    after(now(), Duration::from_secs(days * 24 * 60 * 60))
}

fn read(data: &Data) -> Content {
    Content::read("Secret system/tls", data, &names())
}

fn whole(data: &Data) -> Material {
    match read(data) {
        Content::Whole(material) => material,
        other => panic!("not whole: {other:?}"),
    }
}

fn broken(data: &Data) -> (Material, String) {
    match read(data) {
        Content::Broken(material, problem) => (material, problem),
        other => panic!("not broken: {other:?}"),
    }
}

fn begun() -> Data {
    Material::default().after(Step::Begin, &names(), LIFETIME, now()).expect("made")
}

fn text<'a>(data: &'a Data, key: &str) -> &'a str {
    std::str::from_utf8(&data[key].0).expect("PEM")
}

#[test]
fn a_first_pair_is_whole_and_a_client_of_the_bundle_accepts_it() {
    assert!(matches!(read(&Data::new()), Content::Empty));
    let empty = [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY].map(|key| (key.to_owned(), ByteString(vec![])));
    assert!(matches!(read(&empty.into()), Content::Empty));

    let data = begun();
    let outline = whole(&data).outline();
    let authority = outline.authorities[0];
    assert_eq!(authority, Span { begins: now() - BACKDATED, ends: later(90) });
    let leaf = Leaf { span: authority, issuer: 0, named: true };
    assert_eq!(
        outline,
        Outline { authorities: vec![authority], signer: Some(0), leaf: Some(leaf) }
    );

    let mut roots = RootCertStore::empty();
    for certificate in certificates("bundle", &data[CA_CRT].0).expect("PEM") {
        roots.add(certificate).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .expect("a verifier");
    let chain = certificates("leaf", &data[TLS_CRT].0).expect("PEM");
    let accepts = |name: &str, at: Timestamp| {
        use rustls::client::danger::ServerCertVerifier as _;
        let name = name.to_owned().try_into().expect("a name");
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at.as_second() as u64));
        client.verify_server_cert(&chain[0], &[], &name, &[], at).is_ok()
    };
    assert!(accepts("countersign.system.svc", now()));
    assert!(accepts("countersign.system", later(89)));
    assert!(accepts("countersign.system", now() - Duration::from_secs(3_500)), "a late clock");
    assert!(!accepts("countersign.system", later(91)));
    assert!(!accepts("other.system.svc", now()));
}

#[test]
fn keys_are_of_p_256_and_never_shown() {
    let data = begun();
    for key in [CA_KEY, TLS_KEY] {
        let pair = KeyPair::from_pem(text(&data, key)).expect("a key");
        assert_eq!(pair.algorithm(), &PKCS_ECDSA_P256_SHA256, "{key}");
    }
    let content = read(&data);
    let shown = format!("{content:?} {:?}", whole(&data).pair());
    for key in [CA_KEY, TLS_KEY] {
        for line in text(&data, key).lines() {
            assert!(!shown.contains(line), "{shown}");
        }
        let bytes = format!("{:?}", &data[key].0[30..60]);
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }
}

#[test]
fn rotation_publishes_first_then_signs_then_forgets() {
    let first = begun();
    let added = whole(&first).after(Step::AddAuthority, &names(), LIFETIME, later(60));
    let added = added.expect("made");
    assert_eq!((&added[TLS_CRT], &added[TLS_KEY]), (&first[TLS_CRT], &first[TLS_KEY]));
    assert!(text(&added, CA_CRT).starts_with(text(&first, CA_CRT)), "both are trusted");
    assert_ne!(added[CA_KEY], first[CA_KEY]);
    let material = whole(&added);
    assert_eq!(material.outline().signer, Some(1));
    assert_eq!(material.outline().leaf.map(|leaf| leaf.issuer), Some(0));
    assert_eq!(material.bundle(), text(&added, CA_CRT));
    assert!(contains(text(&added, CA_CRT), material.signer().expect("a signer")));
    assert!(!contains(text(&first, CA_CRT), material.signer().expect("a signer")));

    let signed = material.after(Step::Sign, &names(), LIFETIME, later(61)).expect("made");
    assert_eq!(signed[CA_CRT], added[CA_CRT], "the old authority is trusted still");
    assert_eq!(signed[CA_KEY], added[CA_KEY]);
    assert_ne!(signed[TLS_KEY], added[TLS_KEY], "the key is a new one");
    let leaf = whole(&signed).outline().leaf.expect("a leaf");
    assert_eq!(leaf.issuer, 1);
    assert_eq!(leaf.span.ends, later(150), "no longer than its authority");

    let dropped = whole(&signed).after(Step::Drop, &names(), LIFETIME, later(90)).expect("made");
    assert!(text(&signed, CA_CRT).ends_with(text(&dropped, CA_CRT)));
    assert_eq!(whole(&dropped).outline().authorities.len(), 1);
    assert_eq!(whole(&dropped).outline().leaf.map(|leaf| leaf.issuer), Some(0));
}

#[test]
fn other_names_are_noticed() {
    let content = Content::read("Secret", &begun(), &["other.system.svc".to_owned()].into());
    let Content::Whole(material) = content else { panic!("{content:?}") };
    assert!(!material.outline().leaf.expect("a leaf").named);
}

#[test]
fn o3_whatever_is_missing_or_wrong_is_told_and_the_rest_is_used() {
    let (good, other) = (begun(), begun());
    let replaced = |key: &str, value: &[u8]| {
        let mut data = good.clone();
        data.insert(key.to_owned(), ByteString(value.to_vec()));
        data
    };
    for (key, value, told, left) in [
        (CA_CRT, &b""[..], "ca.crt: no PEM certificate", (0, None, false)),
        (CA_CRT, b"garbage", "ca.crt: no PEM certificate", (0, None, false)),
        (CA_CRT, &good[TLS_CRT].0, "is no authority's", (0, None, false)),
        (CA_CRT, &other[CA_CRT].0, "no key of an authority in ca.crt", (1, None, false)),
        (CA_KEY, b"", "ca.key: no PEM private key", (1, None, true)),
        (CA_KEY, &other[CA_KEY].0, "ca.key: it is no key of an authority", (1, None, true)),
        (TLS_CRT, b"", "tls.crt: no PEM certificate", (1, Some(0), false)),
        (TLS_CRT, &good[TLS_CRT].0[..300], "tls.crt: ", (1, Some(0), false)),
        (TLS_CRT, &other[TLS_CRT].0, "not the key of the certificate", (1, Some(0), false)),
        (TLS_KEY, b"", "tls.key: no PEM private key", (1, Some(0), false)),
        (TLS_KEY, &other[TLS_KEY].0, "not the key of the certificate", (1, Some(0), false)),
    ] {
        let (material, problem) = broken(&replaced(key, value));
        assert!(problem.contains(told), "{problem}");
        assert!(problem.starts_with("Secret system/tls, "), "{problem}");
        let outline = material.outline();
        let found = (outline.authorities.len(), outline.signer, outline.leaf.is_some());
        assert_eq!(found, left, "{key}: {problem}");
    }
    let mut pair = replaced(TLS_CRT, &other[TLS_CRT].0);
    pair.insert(TLS_KEY.to_owned(), other[TLS_KEY].clone());
    let (material, problem) = broken(&pair);
    assert!(problem.contains("no authority in ca.crt has signed it"), "{problem}");
    assert!(material.pair().is_none(), "nobody would trust it");
}

#[test]
fn a_certificate_that_has_ended_is_whole_all_the_same() {
    let earlier = Timestamp::from_second(1_500_000_000).expect("a time");
    let data = Material::default().after(Step::Begin, &names(), LIFETIME, earlier).expect("made");
    assert!(whole(&data).outline().leaf.expect("a leaf").span.ends < now());
    let again = whole(&data).after(Step::Begin, &names(), LIFETIME, now()).expect("made");
    assert_eq!(whole(&again).outline().authorities.len(), 1, "the old authority is dropped");
}
