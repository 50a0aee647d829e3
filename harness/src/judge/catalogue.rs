//! The requirements of a protocol: one list from which citations, `explain`, coverage and the reports are made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How binding a requirement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Broken: the flow fails.
    Must,
    /// Broken: the flow warns.
    Should,
    /// A permission; cannot be broken, only noted.
    May,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
            Level::May => "MAY",
        })
    }
}

/// One numbered requirement.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Its name, `HANGOUT-CHG-4`.
    pub id: String,
    /// How binding it is.
    pub level: Level,
    /// The roles it binds.
    pub roles: Vec<String>,
    /// The heading it stands under.
    pub topic: String,
    /// Where the documents say it.
    pub section: String,
    /// True when it goes beyond the seed document.
    #[serde(default)]
    pub ext: bool,
    /// One sentence.
    pub text: String,
    /// How it is seen from outside.
    #[serde(default)]
    pub seen: String,
    /// The editions it belongs to; all of the protocol's when empty.
    #[serde(default)]
    pub editions: Vec<String>,
    /// Requirements that cannot be judged in a flow in which this one is broken: their accusations there follow from
    /// it. A trailing `*` stands for any ending.
    #[serde(default)]
    pub explains: Vec<String>,
    /// Requirements of which nothing can be seen where something does not come because this one is broken: such
    /// accusations, and only those, follow from it. A trailing `*` stands for any ending.
    #[serde(default, rename = "explains-missing")]
    pub explains_missing: Vec<String>,
    /// True when a flow cannot go on as it is written once this one is broken, since the message, its answer or the
    /// link is not what the next arrow awaits. Where the catalogue of messages or a monitor has seen the breach, what
    /// the arrows accuse after it in that flow follows from it; what others see for themselves stands.
    #[serde(default, rename = "spoils-arrows")]
    pub spoils_arrows: bool,
    /// Why nobody outside can observe it, when that is so.
    #[serde(default)]
    pub untested: Option<String>,
    /// Roles that it binds in which nobody can observe it, and why.
    #[serde(default)]
    pub untested_for: std::collections::BTreeMap<String, String>,
}

/// All requirements of a protocol, in the order of its document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    #[serde(default, rename = "requirement")]
    requirements: Vec<Requirement>,
}

impl Catalogue {
    /// The requirement called `id`.
    pub fn get(&self, id: &str) -> Option<&Requirement> {
        self.requirements.iter().find(|requirement| requirement.id == id)
    }

    /// True when an accusation of `follower` follows from a broken `root` in the same flow; `missing` says that the
    /// accusation is about something that did not come.
    pub fn explains(&self, root: &str, follower: &str, missing: bool) -> bool {
        let names = |patterns: &[String]| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => follower.starts_with(start),
                None => follower == pattern,
            })
        };
        root != follower
            && self.get(root).is_some_and(|requirement| {
                names(&requirement.explains) || (missing && names(&requirement.explains_missing))
            })
    }

    /// True when arrows that come after a breach of `id` cannot be held against anybody.
    pub fn spoils_arrows(&self, id: &str) -> bool {
        self.get(id).is_some_and(|requirement| requirement.spoils_arrows)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.iter()
    }

    /// The level of `id`; what nobody numbered binds like a MUST.
    pub fn level(&self, id: &str) -> Level {
        self.get(id).map_or(Level::Must, |requirement| requirement.level)
    }

    /// True when `id` binds `role` in an edition.
    pub fn binds_in(&self, id: &str, role: &str, edition: &str) -> bool {
        self.binds(id, role) && self.is_of(id, edition)
    }

    /// True unless `id` is known to belong to other editions only.
    pub fn is_of(&self, id: &str, edition: &str) -> bool {
        self.get(id)
            .is_none_or(|known| known.editions.is_empty() || known.editions.iter().any(|one| one == edition))
    }

    /// True when `id` binds `role`.
    pub fn binds(&self, id: &str, role: &str) -> bool {
        self.get(id).is_some_and(|requirement| requirement.roles.iter().any(|bound| bound == role))
    }
}
