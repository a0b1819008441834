//! Reads a row's columns one after the other.

use std::fmt::Display;
use std::str::FromStr;

use nh_types::Timestamp;
use rusqlite::types::{FromSql, Value};
use serde::de::DeserializeOwned;
use sqlx::Row as _;

use crate::StoreError;
use crate::runs::Kept;
use crate::sql::Row;

/// A cursor over the columns of one row, in the order of the select list.
pub(crate) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

macro_rules! native {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)+) => {$(
        $(#[$doc])*
        pub(crate) fn $name(&mut self) -> Result<$type, StoreError> {
            let index = self.next;
            self.next += 1;
            let value = match self.row {
                Row::Sqlite(row) => FromSql::column_result(row.get(index).unwrap_or(&Value::Null).into())
                    .map_err(|error| error.to_string()),
                Row::Postgres(row) => row.try_get(index).map_err(|error| error.to_string()),
            };
            value.map_err(|error| StoreError::Corrupt(format!("column {}: {error}", index + 1)))
        }
    )+};
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    native! {
        int -> i64;
        optional_int -> Option<i64>;
        optional_real -> Option<f64>;
        text -> String;
        optional_text -> Option<String>;
        bytes -> Vec<u8>;
        optional_bytes -> Option<Vec<u8>>;
    }

    pub(crate) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.int()? != 0)
    }

    /// A number that is never negative; a bigger one than `T` holds is damage.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let number = self.int()?;
        T::try_from(number).map_err(|_| StoreError::Corrupt(format!("{number} is out of range")))
    }

    pub(crate) fn optional_number<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, StoreError> {
        let Some(number) = self.optional_int()? else { return Ok(None) };
        match T::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(StoreError::Corrupt(format!("{number} is out of range"))),
        }
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.int().map(Timestamp::from_millis)
    }

    pub(crate) fn optional_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.optional_int()?.map(Timestamp::from_millis))
    }

    /// An id or a word.
    pub(crate) fn parse<T>(&mut self) -> Result<T, StoreError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text()?.parse().map_err(|error: T::Err| StoreError::Corrupt(error.to_string()))
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        parse_json(&self.text()?)
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        self.optional_text()?.map(|text| parse_json(&text)).transpose()
    }

    /// JSON, or what refers to it.
    pub(crate) fn kept_json<T: DeserializeOwned>(&mut self) -> Result<Kept<T>, StoreError> {
        read_kept(&self.text()?)
    }

    pub(crate) fn optional_kept_json<T: DeserializeOwned>(&mut self) -> Result<Option<Kept<T>>, StoreError> {
        self.optional_text()?.map(|text| read_kept(&text)).transpose()
    }

    /// JSON that is not looked into.
    pub(crate) fn json_text(&mut self) -> Result<nh_types::JsonText, StoreError> {
        nh_types::JsonText::new(self.text()?).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    pub(crate) fn scopes(&mut self) -> Result<nh_types::ScopeSet, StoreError> {
        nh_types::ScopeSet::from_text(&self.text()?).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    pub(crate) fn hash(&mut self) -> Result<[u8; 32], StoreError> {
        self.bytes()?
            .try_into()
            .map_err(|bytes: Vec<u8>| StoreError::Corrupt(format!("a hash of {} bytes", bytes.len())))
    }
}

fn read_kept<T: DeserializeOwned>(text: &str) -> Result<Kept<T>, StoreError> {
    let Some(bytes) = text.strip_prefix('@') else { return parse_json(text).map(Kept::Here) };
    let damaged = |_| StoreError::Corrupt(format!("`@{bytes}` refers to no value"));
    bytes.parse().map(Kept::Apart).map_err(damaged)
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}
