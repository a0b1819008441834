use std::sync::{Arc, LazyLock};

use hyper_rustls::ConfigBuilderExt;
use rustls::ClientConfig;
use rustls::crypto::ring;

use crate::error::HttpError;

/// The machine's certificate store is read once: it does not depend on the
/// caller, and parsing it takes milliseconds.
static CONFIG: LazyLock<Result<Arc<ClientConfig>, String>> =
    LazyLock::new(|| build().map(Arc::new).map_err(|error| error.to_string()));

pub(crate) fn client_config() -> Result<Arc<ClientConfig>, HttpError> {
    CONFIG.clone().map_err(HttpError::Tls)
}

/// The machine's own roots, so that an operator's private CA works; Mozilla's
/// bundled ones where the machine has none (a bare container).
fn build() -> Result<ClientConfig, rustls::Error> {
    let builder = || {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
    };
    let config = match builder()?.with_native_roots() {
        Ok(with_roots) => with_roots.with_no_client_auth(),
        Err(error) => {
            tracing::info!(%error, "no certificate store on this machine; using the bundled one");
            builder()?.with_webpki_roots().with_no_client_auth()
        }
    };
    Ok(config)
}
