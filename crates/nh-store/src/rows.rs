//! Statements over many rows at once.
//!
//! A statement's text depends on the number of its rows, and each text is
//! prepared once per connection. So that there are few texts, the number is
//! rounded up to one of a few, and the surplus rows are all null: statements
//! pass over rows whose first column is null.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::EngineKind;
use crate::sql::Arg;

/// The most rows in one statement.
const MAX_ROWS: usize = 512;

/// What stands for the rows in a statement's text.
const PLACE: &str = "ROWS";

/// Rows of equal width, to go where a statement's text says `ROWS`.
#[derive(Clone)]
pub(crate) struct Rows {
    width: usize,
    args: Vec<Arg>,
}

impl Rows {
    pub(crate) fn new(width: usize) -> Self {
        Self { width, args: Vec::new() }
    }

    /// The first column must not be null.
    pub(crate) fn push(&mut self, row: Vec<Arg>) {
        debug_assert_eq!(row.len(), self.width, "a row of another width");
        self.args.extend(row);
    }

    /// Cuts into statements of at most [`MAX_ROWS`] rows.
    pub(crate) fn statements(mut self, template: &'static str, texts: &mut Texts) -> Vec<(SqlStr, Vec<Arg>)> {
        let mut statements = Vec::new();
        while !self.args.is_empty() {
            let rest = self.args.split_off(self.args.len().min(MAX_ROWS * self.width));
            let mut args = std::mem::replace(&mut self.args, rest);
            let count = rounded(args.len() / self.width);
            let nulls: Vec<Arg> = args[..self.width].iter().map(Arg::null_like).collect();
            while args.len() < count * self.width {
                args.extend_from_slice(&nulls);
            }
            statements.push((texts.get(template, count, self.width), args));
        }
        statements
    }
}

/// The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, … 512 that is not below `count`.
fn rounded(count: usize) -> usize {
    let power = count.next_power_of_two();
    let between = power / 4 * 3;
    if between >= count { between } else { power }
}

/// The texts made so far, by template and number of rows.
pub(crate) struct Texts {
    engine: EngineKind,
    made: HashMap<(&'static str, usize), Arc<str>>,
}

impl Texts {
    pub(crate) fn new(engine: EngineKind) -> Self {
        Self { engine, made: HashMap::new() }
    }

    fn get(&mut self, template: &'static str, rows: usize, width: usize) -> SqlStr {
        let make = || template.replacen(PLACE, &placeholders(self.engine, rows, width), 1).into();
        let text = self.made.entry((template, rows)).or_insert_with(make);
        // Only places were put into a text that this crate wrote.
        AssertSqlSafe(Arc::clone(text)).into_sql_str()
    }
}

/// `($1, $2), ($3, $4)`, or `(?, ?), (?, ?)` for an engine that only counts.
fn placeholders(engine: EngineKind, rows: usize, width: usize) -> String {
    let mut text = String::with_capacity(rows * width * 6);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            text.push_str(if column == 0 { "" } else { ", " });
            if engine.counts_places() {
                text.push('?');
            } else {
                // Writing to a String cannot fail.
                let _ = write!(text, "${}", row * width + column + 1);
            }
        }
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::args;

    #[test]
    fn counts_are_rounded_up_to_few() {
        let rounds: Vec<usize> = (1..=13).map(rounded).collect();
        assert_eq!(rounds, [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16]);
        for count in 1..=MAX_ROWS {
            assert!((count..=MAX_ROWS).contains(&rounded(count)));
        }
    }

    #[test]
    fn surplus_rows_are_null_and_long_lists_are_cut() {
        let mut rows = Rows::new(2);
        for number in 0..(MAX_ROWS as i64 + 5) {
            rows.push(args![number, "x"]);
        }
        let statements = rows.statements("values ROWS", &mut Texts::new(EngineKind::Postgres));
        let sizes: Vec<usize> = statements.iter().map(|(_, args)| args.len()).collect();
        assert_eq!(sizes, [2 * MAX_ROWS, 2 * 6]);
        let (sql, args) = &statements[1];
        assert!(sql.as_str().starts_with("values ($1, $2), ($3, $4)"));
        assert!(sql.as_str().ends_with("($11, $12)"));
        assert!(matches!(args[10..], [Arg::Int(None), Arg::Text(None)]));
    }

    #[test]
    fn no_rows_are_no_statement() {
        let mut texts = Texts::new(EngineKind::Sqlite);
        assert!(Rows::new(3).statements("values ROWS", &mut texts).is_empty());
    }

    #[test]
    fn sqlite_counts_the_places_itself() {
        let mut rows = Rows::new(2);
        rows.push(args![1_i64, "x"]);
        rows.push(args![2_i64, "y"]);
        let statements = rows.statements("values ROWS", &mut Texts::new(EngineKind::Sqlite));
        assert_eq!(statements[0].0.as_str(), "values (?, ?), (?, ?)");
    }
}
