//! Lists: `?limit=` and an opaque `?cursor=`.

/// One page asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to [`PageRequest::MAX_LIMIT`] rows.
    pub limit: u32,
    /// The sort key of the last row of the page before, as the store gave it.
    pub after: Option<String>,
}

impl PageRequest {
    pub const DEFAULT_LIMIT: u32 = 100;
    pub const MAX_LIMIT: u32 = 1000;
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: Self::DEFAULT_LIMIT, after: None }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// What to pass as `after` for the next page; absent on the last page.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Cuts a page out of `rows`, which the store read with one row more than
    /// `limit` to learn whether another page follows.
    pub fn cut(mut rows: Vec<T>, limit: u32, sort_key: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(sort_key) } else { None };
        Self { items: rows, next }
    }

    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next: self.next }
    }
}
