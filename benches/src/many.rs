//! Many signed repositories, of one root key, on a server in this process: its work is counted with
//! what it is asked for.

use countersign_e2e::Outcome;
use countersign_e2e::builder::digest;
use countersign_e2e::policies::{Policies, Policy, Source};
use countersign_e2e::serve::Served;
use countersign_e2e::signed::Signed;
use jiff::{SignedDuration, Timestamp};

use crate::world::World;

const HOST: &str = "many.example.com";

/// What is signed.
const CONTENT: &str = "bench";

pub(crate) struct Many {
    served: Served,
    public_key: String,
}

impl Many {
    pub(crate) fn start(count: usize) -> Outcome<Self> {
        let until = Timestamp::now() + SignedDuration::from_hours(24);
        let (signed, public_key) = Signed::many((0..count).map(repository), CONTENT, until);
        Ok(Self { served: Served::plain(signed.router())?, public_key })
    }

    /// Writes a source of these, and a policy.
    pub(crate) fn write(
        &self,
        policies: &Policies,
        world: &World,
        refresh_after: u32,
    ) -> Outcome<()> {
        let all = format!("{HOST}/**");
        let source = Source::new("many", self.served.url(), &world.authority.pem());
        let mut source = source.pin("bench", &all, &self.public_key);
        source.refresh_after = refresh_after;
        policies.source(&source)?;
        policies.policy(&Policy::new("many", &all, "many"))
    }
}

/// The image of the repository of this number.
pub(crate) fn image(number: usize) -> String {
    format!("{}@{}", repository(number), digest(CONTENT))
}

fn repository(number: usize) -> String {
    format!("{HOST}/team/app-{number}")
}
