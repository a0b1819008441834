//! What a credential may do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! scopes {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// One permission. `x:write` includes `x:read`, and so on: see
        /// [`Scope::includes`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum Scope { $($variant),+ }

        impl Scope {
            pub const EVERY: &'static [Scope] = &[$(Scope::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Scope::$variant => $text),+ }
            }
        }
    };
}

scopes! {
    All = "*",
    AgentsRead = "agents:read",
    AgentsWrite = "agents:write",
    ChatWrite = "chat:write",
    KeysRead = "keys:read",
    KeysWrite = "keys:write",
    MemoriesRead = "memories:read",
    MemoriesWrite = "memories:write",
    ModelsRead = "models:read",
    ResourcesRead = "resources:read",
    ResourcesWrite = "resources:write",
    RunRead = "run:read",
    RunWrite = "run:write",
    StorageRead = "storage:read",
    StorageWrite = "storage:write",
    ToolsCall = "tools:call",
    ToolsRead = "tools:read",
    ToolsWrite = "tools:write",
    UsageRead = "usage:read",
}

impl Scope {
    /// Whether holding `self` allows what needs `needed`.
    pub fn includes(self, needed: Scope) -> bool {
        use Scope::*;
        self == needed
            || matches!(
                (self, needed),
                (All, _)
                    | (AgentsWrite, AgentsRead)
                    | (ChatWrite, ModelsRead)
                    | (KeysWrite, KeysRead)
                    | (MemoriesWrite, MemoriesRead)
                    | (ResourcesWrite, ResourcesRead)
                    | (RunWrite, RunRead)
                    | (StorageWrite, StorageRead)
                    | (ToolsWrite, ToolsCall | ToolsRead)
                    | (ToolsCall, ToolsRead)
            )
    }
}

/// The text is not a scope.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a scope; the scopes are {list}", list = scope_list())]
pub struct UnknownScope(pub String);

fn scope_list() -> String {
    Scope::EVERY.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Scope {
    type Err = UnknownScope;

    /// `memory:…` is an alias of `memories:…`.
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let name = match text.strip_prefix("memory:") {
            Some(right) => format!("memories:{right}"),
            None => text.to_owned(),
        };
        Scope::EVERY
            .iter()
            .copied()
            .find(|scope| scope.as_str() == name)
            .ok_or_else(|| UnknownScope(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Scope {
    type Error = UnknownScope;

    fn try_from(text: String) -> Result<Self, UnknownScope> {
        text.parse()
    }
}

impl From<Scope> for &'static str {
    fn from(scope: Scope) -> &'static str {
        scope.as_str()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scopes that a key, a session or a run holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    pub fn all() -> Self {
        Self::from_iter([Scope::All])
    }

    pub fn allows(&self, needed: Scope) -> bool {
        self.0.iter().any(|held| held.includes(needed))
    }

    /// The first scope of `wanted` that goes beyond `self`, if any.
    pub fn first_beyond(&self, wanted: &ScopeSet) -> Option<Scope> {
        wanted.0.iter().copied().find(|scope| !self.allows(*scope))
    }

    /// What both sets allow.
    #[must_use]
    pub fn shared_with(&self, other: &ScopeSet) -> ScopeSet {
        let mine = self.iter().filter(|scope| other.allows(*scope));
        mine.chain(other.iter().filter(|scope| self.allows(*scope))).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = Scope> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the store keeps it: names joined by spaces.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
    }

    pub fn from_text(text: &str) -> Result<Self, UnknownScope> {
        text.split_whitespace().map(str::parse).collect()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl utoipa::PartialSchema for Scope {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(Scope::EVERY.iter().map(|scope| scope.as_str())))
            .into()
    }
}

impl utoipa::ToSchema for Scope {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_includes_reading_and_nothing_else() {
        assert!(Scope::RunWrite.includes(Scope::RunRead));
        assert!(!Scope::RunRead.includes(Scope::RunWrite));
        assert!(Scope::ToolsWrite.includes(Scope::ToolsCall));
        assert!(Scope::ToolsCall.includes(Scope::ToolsRead));
        assert!(Scope::ChatWrite.includes(Scope::ModelsRead));
        assert!(!Scope::RunWrite.includes(Scope::ToolsCall));
        for scope in Scope::EVERY {
            assert!(Scope::All.includes(*scope));
            assert_eq!(scope.includes(Scope::All), *scope == Scope::All);
        }
    }

    #[test]
    fn memory_is_an_alias_and_unknown_scopes_are_named() {
        assert_eq!("memory:read".parse(), Ok(Scope::MemoriesRead));
        let error = "memories:delete".parse::<Scope>().expect_err("unknown");
        assert!(error.to_string().starts_with("`memories:delete` is not a scope"));
    }

    #[test]
    fn two_sets_share_what_both_allow() {
        let set = |text: &str| ScopeSet::from_text(text).expect("scopes");
        assert_eq!(set("*").shared_with(&set("run:write")), set("run:write"));
        assert_eq!(
            set("run:write tools:call").shared_with(&set("run:read tools:write")),
            set("run:read tools:call")
        );
        assert!(set("run:write").shared_with(&set("chat:write")).is_empty());
    }

    #[test]
    fn a_set_finds_what_goes_beyond_it() {
        let mine: ScopeSet = [Scope::RunWrite].into_iter().collect();
        assert_eq!(mine.first_beyond(&[Scope::RunRead].into_iter().collect()), None);
        assert_eq!(mine.first_beyond(&ScopeSet::all()), Some(Scope::All));
    }
}
