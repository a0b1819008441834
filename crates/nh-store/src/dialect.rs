/// Which database keeps the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    Sqlite,
    Postgres,
}
