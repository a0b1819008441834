//! Signatures of Standard Webhooks 1.0.0: HMAC-SHA256 over the message's id,
//! its time and its body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use nh_types::{Ids, Timestamp};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

/// Within what the specification allows: 24 to 64.
const SECRET_BYTES: usize = 32;
const PREFIX: &str = "whsec_";

/// A fresh secret.
pub fn new_secret(ids: &dyn Ids) -> SecretSlice<u8> {
    let mut bytes = vec![0; SECRET_BYTES];
    ids.fill(&mut bytes);
    bytes.into()
}

/// As people keep it.
pub fn written(secret: &SecretSlice<u8>) -> String {
    format!("{PREFIX}{}", STANDARD.encode(secret.expose_secret()))
}

/// The header `webhook-timestamp`: whole seconds.
pub fn seconds(at: Timestamp) -> String {
    at.as_millis().div_euclid(1000).to_string()
}

/// The header `webhook-signature`: one signature for each secret.
pub fn signatures(secrets: &[SecretSlice<u8>], id: &str, at: Timestamp, body: &[u8]) -> String {
    let signed = secrets.iter().filter_map(|secret| {
        // A key of any length fits.
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret()).ok()?;
        mac.update(format!("{id}.{}.", seconds(at)).as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_known_message_has_its_known_signature() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let at = Timestamp::from_millis(1_614_265_330_000);
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = br#"{"test": 2432232314}"#;
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signatures(&[secret.clone().into()], id, at, body), signature);
        let twice = signatures(&[vec![1; 24].into(), secret.into()], id, at, body);
        assert_eq!(twice.split(' ').nth(1), Some(signature));
    }
}
