//! All that differs between SQLite and PostgreSQL, apart from how each is
//! connected to and given many rows at once.

/// Which database keeps the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    Sqlite,
    Postgres,
}

impl EngineKind {
    /// What each word of a migration stands for. SQLite's STRICT tables know
    /// only five types; PostgreSQL's text compares as SQLite's does, byte by
    /// byte, only under collation C.
    pub(crate) const fn words(self) -> [(&'static str, &'static str); 6] {
        match self {
            Self::Sqlite => [
                ("BIGINT", "INTEGER"),
                ("BYTES", "BLOB"),
                ("DOUBLE", "REAL"),
                ("TEXT", "TEXT"),
                ("TABLE_OPTIONS", "STRICT"),
                ("CLUSTERED_OPTIONS", "STRICT, WITHOUT ROWID"),
            ],
            Self::Postgres => [
                ("BIGINT", "BIGINT"),
                ("BYTES", "BYTEA"),
                ("DOUBLE", "DOUBLE PRECISION"),
                ("TEXT", "TEXT COLLATE \"C\""),
                ("TABLE_OPTIONS", ""),
                ("CLUSTERED_OPTIONS", ""),
            ],
        }
    }

    /// The database's clock, in milliseconds since 1970. On PostgreSQL it is
    /// the time of the statement, not of the transaction's start.
    pub(crate) const fn now_ms(self) -> &'static str {
        match self {
            Self::Sqlite => "cast(unixepoch('subsec') * 1000 as integer)",
            Self::Postgres => "cast(extract(epoch from statement_timestamp()) * 1000 as bigint)",
        }
    }

    /// Locks the rows that a subquery picks, passing over those that another
    /// transaction holds. SQLite has one writer, so nobody else can hold any.
    pub(crate) const fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "for update skip locked",
        }
    }

    /// The same, for a row whose key stays: others may go on to refer to it.
    pub(crate) const fn skip_locked_row(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "for no key update skip locked",
        }
    }

    /// Locks the rows that a query reads until the transaction ends.
    pub(crate) const fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "for update",
        }
    }

    /// The function that finds one text in another: at which character, 0 for nowhere.
    pub(crate) const fn position(self) -> &'static str {
        match self {
            Self::Sqlite => "instr",
            Self::Postgres => "strpos",
        }
    }

    /// The texts of a JSON list, the statement's first argument, as rows with one
    /// column, `text`.
    pub(crate) const fn texts(self) -> &'static str {
        match self {
            Self::Sqlite => "select value as text from json_each($1)",
            Self::Postgres => "select json_array_elements_text(cast($1 as json)) as text",
        }
    }

    /// Replaces each word of `text` that the dialect knows by what it stands for.
    pub(crate) fn translate(self, text: &str) -> String {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let mut translated = String::with_capacity(text.len() + text.len() / 8);
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let end = rest.find(|letter| is_word(letter) != is_word(first)).unwrap_or(rest.len());
            let (token, after) = rest.split_at(end);
            let meaning = self.words().into_iter().find(|(word, _)| *word == token);
            translated.push_str(meaning.map_or(token, |(_, meaning)| meaning));
            rest = after;
        }
        translated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_only_are_translated() {
        let text = "create table t (a BIGINT, bigint_b BYTES, MY_TEXT DOUBLE) TABLE_OPTIONS;";
        assert_eq!(
            EngineKind::Sqlite.translate(text),
            "create table t (a INTEGER, bigint_b BLOB, MY_TEXT REAL) STRICT;"
        );
        assert_eq!(
            EngineKind::Postgres.translate(text),
            "create table t (a BIGINT, bigint_b BYTEA, MY_TEXT DOUBLE PRECISION) ;"
        );
    }
}
