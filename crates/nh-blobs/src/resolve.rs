//! From the settings to a bucket that can be used.

use std::net::IpAddr;

use nh_types::settings::SettingsFault;
use secrecy::ExposeSecret;
use url::Host;

use crate::places::bucket::{Access, Bucket};
use crate::settings::BlobSettings;

fn wrong(field: &str, message: impl Into<String>) -> SettingsFault {
    SettingsFault { at: format!("blobs.{field}"), message: message.into() }
}

impl Bucket {
    /// The bucket of the settings, its secret read; nothing is asked of it yet.
    /// None: objects are in files. Tells all faults at once.
    pub fn resolve(
        settings: &BlobSettings,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Vec<SettingsFault>> {
        let Some(url) = &settings.url else {
            return match settings.has_bucket_fields() {
                true => {
                    let message = "it is missing, though other fields tell how a bucket is reached; give the \
                                   bucket, such as `s3://bucket/prefix`, or leave those out";
                    Err(vec![wrong("url", message)])
                }
                false => Ok(None),
            };
        };
        let mut faults = Vec::new();
        let mut right = |checked: Result<String, SettingsFault>| {
            checked.unwrap_or_else(|fault| {
                faults.push(fault);
                String::new()
            })
        };
        let (name, prefix) = match bucket_and_prefix(url) {
            Ok(parts) => parts,
            Err(fault) => (right(Err(fault)), String::new()),
        };
        right(settings.check_endpoint());
        let region = right(settings.checked_region());
        let access_key_id = right(settings.checked_key_id());
        let secret_access_key = right(settings.secret(&environment)).into();
        if !faults.is_empty() {
            return Err(faults);
        }
        let endpoint = settings.endpoint.clone();
        let access = Access { name, prefix, endpoint, region, access_key_id, secret_access_key };
        let unusable = |error| vec![wrong("url", format!("cannot be used: {error}"))];
        Self::new(access).map(Some).map_err(unusable)
    }
}

/// `s3://bucket/prefix`; the prefix is empty, or has a slash at its end.
fn bucket_and_prefix(url: &str) -> Result<(String, String), SettingsFault> {
    let fault = |message: String| Err(wrong("url", message));
    let path = match url.split_once("://") {
        Some(("s3", path)) => path,
        Some((other, _)) => {
            return fault(format!("`{other}://` is not known here; give a bucket as `s3://bucket/prefix`"));
        }
        None => return fault("it names no bucket; give one as `s3://bucket/prefix`".to_owned()),
    };
    let (name, prefix) = path.split_once('/').unwrap_or((path, ""));
    if name.contains('@') {
        return fault(
            "it holds a user name or password; put those into `access_key_id` and `secret_access_key`"
                .to_owned(),
        );
    }
    let is_plain =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !(3..=63).contains(&name.len()) || !is_plain(name) || name.contains("..") {
        return fault(format!(
            "`{name}` is not the name of a bucket; it has 3 to 63 of letters, digits, `-`, `_` and `.`"
        ));
    }
    let prefix = prefix.trim_end_matches('/');
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && is_plain(segment);
    if prefix.is_empty() {
        Ok((name.to_owned(), String::new()))
    } else if prefix.split('/').all(is_segment) {
        Ok((name.to_owned(), format!("{prefix}/")))
    } else {
        fault(format!(
            "`{prefix}` is not a prefix; it has letters, digits, `-`, `_` and `.`, in segments between single \
             slashes, none of which is `.` or `..`"
        ))
    }
}

impl BlobSettings {
    fn has_bucket_fields(&self) -> bool {
        self.endpoint.is_some() || self.access_key_id.is_some() || self.secrets_given() > 0
    }

    fn secrets_given(&self) -> usize {
        let given = [
            self.secret_access_key.is_some(),
            self.secret_access_key_env.is_some(),
            self.secret_access_key_file.is_some(),
        ];
        given.into_iter().filter(|given| *given).count()
    }

    fn check_endpoint(&self) -> Result<String, SettingsFault> {
        let Some(url) = &self.endpoint else { return Ok(String::new()) };
        let fault = |message: String| Err(wrong("endpoint", message));
        if !url.username().is_empty() || url.password().is_some() {
            return fault(
                "it holds a user name or password; put those into `access_key_id` and `secret_access_key`"
                    .to_owned(),
            );
        }
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return fault(
                "it should be an http:// or https:// address without a query or fragment".to_owned(),
            );
        }
        let is_here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
            None => false,
        };
        if url.scheme() == "http" && !is_here && !self.allow_http {
            let host = url.host_str().unwrap_or_default();
            return fault(format!(
                "objects would go to `{host}` unencrypted; use https://, or set `allow_http = true` where all on \
                 the way there may read them"
            ));
        }
        Ok(String::new())
    }

    fn checked_region(&self) -> Result<String, SettingsFault> {
        let is_region = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if self.region.is_empty() || !self.region.bytes().all(is_region) {
            let message = format!("`{}` is not a region, such as `eu-central-1`", self.region);
            return Err(wrong("region", message));
        }
        Ok(self.region.clone())
    }

    fn checked_key_id(&self) -> Result<String, SettingsFault> {
        let fault = |message| Err(wrong("access_key_id", message));
        match self.access_key_id.as_deref().map(str::trim) {
            None | Some("") => fault("it is missing; a bucket is used with a key's id and its secret"),
            Some(id) if !id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') => {
                fault("it holds a space or another character that no key's id has")
            }
            Some(id) => Ok(id.to_owned()),
        }
    }

    fn secret(&self, environment: &impl Fn(&str) -> Option<String>) -> Result<String, SettingsFault> {
        let fault = |field: &str, message: String| Err(wrong(field, message));
        let (field, text) =
            match (&self.secret_access_key, &self.secret_access_key_env, &self.secret_access_key_file) {
                _ if self.secrets_given() > 1 => {
                    let message = "give one of `secret_access_key`, `secret_access_key_env` and \
                               `secret_access_key_file`, not several";
                    return fault("secret_access_key", message.to_owned());
                }
                (Some(secret), _, _) => ("secret_access_key", secret.expose_secret().to_owned()),
                (_, Some(name), _) => match environment(name).filter(|text| !text.trim().is_empty()) {
                    Some(text) => ("secret_access_key_env", text),
                    None => {
                        let message =
                            format!("the environment has no `{name}`; set it, or leave the field out");
                        return fault("secret_access_key_env", message);
                    }
                },
                (_, _, Some(path)) => match std::fs::read_to_string(path) {
                    Ok(text) => ("secret_access_key_file", text),
                    Err(error) => {
                        return fault("secret_access_key_file", format!("`{path}` cannot be read: {error}"));
                    }
                },
                (None, None, None) => {
                    let message =
                        "it is missing; give it, or `secret_access_key_env` or `secret_access_key_file`";
                    return fault("secret_access_key", message.to_owned());
                }
            };
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return fault(field, "the secret is empty, or holds a character that no secret has".to_owned());
        }
        Ok(text.to_owned())
    }
}
