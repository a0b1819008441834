//! Query strings and pages of lists.

use axum::extract::FromRequestParts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use nh_types::{ApiError, ErrorCode, PageRequest, Timestamp};

use crate::failure::{Answer, Failure};

const MAX_PARAMETERS: usize = 32;
/// More than a pathname takes.
const MAX_CURSOR_CHARS: usize = 2048;

/// The parameters of a query string. A handler takes what it knows and then
/// calls [`Query::finish`], which refuses the rest by name.
pub(crate) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let text = parts.uri.query().unwrap_or_default();
        let pairs: Vec<_> =
            url::form_urlencoded::parse(text.as_bytes()).into_owned().take(MAX_PARAMETERS + 1).collect();
        if pairs.len() > MAX_PARAMETERS {
            let message = format!("the query has more than {MAX_PARAMETERS} parameters");
            return Err(Failure::new(ErrorCode::InvalidRequest, message));
        }
        Ok(Self(pairs))
    }
}

impl Query {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a parameter, which may come once.
    pub(crate) fn take(&mut self, name: &str) -> Answer<Option<String>> {
        let mut found = None;
        while let Some(at) = self.0.iter().position(|(key, _)| key == name) {
            if found.replace(self.0.swap_remove(at).1).is_some() {
                let message = format!("the query parameter `{name}` came twice");
                return Err(ApiError::new(ErrorCode::InvalidRequest, message).param(name).into());
            }
        }
        Ok(found)
    }

    /// A parameter that has to parse; a fault is a 422 that says what would.
    pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &str,
    ) -> Answer<Option<T>> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error: T::Err| invalid(name, error.to_string()).into())
    }

    pub(crate) fn time(&mut self, name: &str) -> Answer<Option<Timestamp>> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        Timestamp::parse(&text)
            .map(Some)
            .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.to_string()).param(name).into())
    }

    /// `limit` and `cursor`.
    pub(crate) fn page(&mut self) -> Answer<PageRequest> {
        self.page_of(PageRequest::DEFAULT_LIMIT)
    }

    /// The same, with another limit where none is given.
    pub(crate) fn page_of(&mut self, limit: u32) -> Answer<PageRequest> {
        let limit = match self.take("limit")? {
            None => limit,
            Some(text) => parse_limit(&text)?,
        };
        let after = self.take("cursor")?.map(|cursor| open_cursor(&cursor)).transpose()?;
        Ok(PageRequest { limit, after })
    }

    pub(crate) fn finish(self) -> Answer<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(80).collect();
                let message = format!("`{name}` is not a query parameter of this operation");
                Err(ApiError::new(ErrorCode::UnknownField, message).param(name).into())
            }
        }
    }
}

fn parse_limit(text: &str) -> Result<u32, ApiError> {
    let shown: String = text.chars().take(40).collect();
    let number: i128 = text.parse().map_err(|_| {
        let message = format!("`limit` must be a whole number; it is `{shown}`");
        ApiError::new(ErrorCode::InvalidRequest, message).param("limit")
    })?;
    u32::try_from(number).ok().filter(|limit| (1..=PageRequest::MAX_LIMIT).contains(limit)).ok_or_else(|| {
        invalid("limit", format!("`limit` is {shown}; it must be 1 to {}", PageRequest::MAX_LIMIT))
    })
}

pub(crate) fn invalid(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidValue, message).param(param)
}

/// What clients see as opaque: the sort key of the last row.
pub(crate) fn seal_cursor(after: &str) -> String {
    URL_SAFE_NO_PAD.encode(after)
}

pub(crate) fn open_cursor(cursor: &str) -> Result<String, ApiError> {
    let bytes = (cursor.len() <= MAX_CURSOR_CHARS).then(|| URL_SAFE_NO_PAD.decode(cursor).ok()).flatten();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|text| !text.contains('\0'));
    text.ok_or_else(|| {
        invalid("cursor", "`cursor` is not one that this list gave out; leave it out to start".to_owned())
    })
}

/// `Link: <…>; rel="next"`, for lists that are bare arrays.
pub(crate) fn link_to_next(base: &str, path: &str, page: &PageRequest, next: Option<&str>) -> HeaderMap {
    let link = next.and_then(|after| {
        let url = format!("{base}{path}?limit={}&cursor={}", page.limit, seal_cursor(after));
        HeaderValue::from_str(&format!("<{url}>; rel=\"next\"")).ok()
    });
    link.map(|link| (header::LINK, link)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn query(text: &str) -> Query {
        let request = http::Request::get(format!("/x?{text}")).body(()).expect("valid");
        let (mut parts, ()) = request.into_parts();
        match Query::from_request_parts(&mut parts, &()).await {
            Ok(query) => query,
            Err(failure) => panic!("{}", failure.error.message),
        }
    }

    #[tokio::test]
    async fn limits_and_cursors_are_checked() {
        let page = query("limit=2&cursor=YWJj").await.page().map_err(|f| f.error).expect("valid");
        assert_eq!(page, PageRequest { limit: 2, after: Some("abc".to_owned()) });
        for (text, code) in [
            ("limit=0", ErrorCode::InvalidValue),
            ("limit=1001", ErrorCode::InvalidValue),
            ("limit=99999999999999999999999999999999999999999999", ErrorCode::InvalidRequest),
            ("limit=ten", ErrorCode::InvalidRequest),
            ("limit=1&limit=2", ErrorCode::InvalidRequest),
            ("cursor=%00", ErrorCode::InvalidValue),
            ("cursor=AA", ErrorCode::InvalidValue),
        ] {
            let failure = query(text).await.page().expect_err(text);
            assert_eq!(failure.error.code, code, "{text}");
        }
    }

    #[tokio::test]
    async fn an_unknown_parameter_is_named() {
        let failure = query("colour=red").await.finish().expect_err("refused");
        assert_eq!(failure.error.param.as_deref(), Some("colour"));
    }
}
