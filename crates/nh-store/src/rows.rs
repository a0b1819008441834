//! Statements over many rows at once.
//!
//! PostgreSQL is given an array for each column, so one text does for any number
//! of rows. SQLite has no arrays: there the text depends on the number of rows,
//! and each text is prepared once per connection. So that there are few, the
//! number is rounded up to one of a few, and the surplus rows are all null:
//! statements pass over rows whose first column is null.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::EngineKind;
use crate::sql::Arg;

/// The most rows in one statement.
const MAX_ROWS: usize = 512;

/// What stands for the rows in a statement's text.
const PLACE: &str = "values ROWS";

/// Rows of equal width, to go where a statement's text says `values ROWS`; the
/// columns are `column1`, `column2`.
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
            let args = std::mem::replace(&mut self.args, rest);
            statements.push(match texts.engine {
                EngineKind::Sqlite => {
                    let args = padded(args, self.width);
                    (texts.values(template, args.len() / self.width, self.width), args)
                }
                EngineKind::Postgres => {
                    let sql = texts.arrays(template, &args[..self.width]);
                    (sql, columns(args, self.width))
                }
            });
        }
        statements
    }
}

fn padded(mut args: Vec<Arg>, width: usize) -> Vec<Arg> {
    let nulls: Vec<Arg> = args[..width].iter().map(Arg::null_like).collect();
    for _ in args.len() / width..rounded(args.len() / width) {
        args.extend_from_slice(&nulls);
    }
    args
}

fn columns(args: Vec<Arg>, width: usize) -> Vec<Arg> {
    let mut columns: Vec<Vec<Arg>> = (0..width).map(|_| Vec::with_capacity(args.len() / width)).collect();
    for (place, arg) in args.into_iter().enumerate() {
        columns[place % width].push(arg);
    }
    columns.into_iter().map(Arg::Column).collect()
}

/// The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, … 512 that is not below `count`.
fn rounded(count: usize) -> usize {
    let power = count.next_power_of_two();
    let between = power / 4 * 3;
    if between >= count { between } else { power }
}

/// The texts made so far, by template and, for SQLite, number of rows.
pub(crate) struct Texts {
    engine: EngineKind,
    made: HashMap<(&'static str, usize), Arc<str>>,
}

impl Texts {
    pub(crate) fn new(engine: EngineKind) -> Self {
        Self { engine, made: HashMap::new() }
    }

    fn values(&mut self, template: &'static str, rows: usize, width: usize) -> SqlStr {
        self.get(template, rows, || {
            // Not `$1`, `$2`: SQLite takes those for names, and looks each up
            // along the list of all.
            let row = format!("({})", vec!["?"; width].join(", "));
            format!("values {}", vec![row; rows].join(", "))
        })
    }

    fn arrays(&mut self, template: &'static str, first: &[Arg]) -> SqlStr {
        self.get(template, 1, || {
            let arrays = (1..).zip(first).map(|(place, arg)| format!("${place}::{}[]", arg.postgres_type()));
            let names = (1..=first.len()).map(|place| format!("column{place}"));
            let (arrays, names): (Vec<_>, Vec<_>) = (arrays.collect(), names.collect());
            format!("select * from unnest({}) as rows ({})", arrays.join(", "), names.join(", "))
        })
    }

    fn get(&mut self, template: &'static str, rows: usize, make: impl Fn() -> String) -> SqlStr {
        let make = || template.replacen(PLACE, &make(), 1).into();
        let text = self.made.entry((template, rows)).or_insert_with(make);
        // Only places were put into a text that this crate wrote.
        AssertSqlSafe(Arc::clone(text)).into_sql_str()
    }
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
        let statements = rows.clone().statements("values ROWS", &mut Texts::new(EngineKind::Sqlite));
        let sizes: Vec<usize> = statements.iter().map(|(_, args)| args.len()).collect();
        assert_eq!(sizes, [2 * MAX_ROWS, 2 * 6]);
        let (sql, args) = &statements[1];
        assert_eq!(sql.as_str(), "values (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?)");
        assert!(matches!(args[10..], [Arg::Int(None), Arg::Text(None)]));

        let statements = rows.statements("values ROWS", &mut Texts::new(EngineKind::Postgres));
        let (sql, args) = &statements[1];
        assert_eq!(sql.as_str(), "select * from unnest($1::bigint[], $2::text[]) as rows (column1, column2)");
        let [Arg::Column(numbers), Arg::Column(texts)] = &args[..] else { panic!("{args:?}") };
        assert_eq!((numbers.len(), texts.len()), (5, 5));
        assert!(matches!((&numbers[4], &texts[4]), (Arg::Int(Some(516)), Arg::Text(Some(_)))));
    }

    #[test]
    fn no_rows_are_no_statement() {
        let mut texts = Texts::new(EngineKind::Sqlite);
        assert!(Rows::new(3).statements("values ROWS", &mut texts).is_empty());
    }
}
