use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use hmac::{Hmac, Mac};
use nh_types::{SharedIds, WorkspaceId};
use secrecy::{ExposeSecret, SecretBox, SecretSlice};
use sha2::{Digest, Sha256};

use crate::StoreError;

const NONCE_BYTES: usize = 12;

/// 32 bytes that the operator keeps.
pub struct MasterKey(SecretBox<[u8; MasterKey::LENGTH_BYTES]>);

impl MasterKey {
    pub const LENGTH_BYTES: usize = 32;

    /// The content of a master key file: exactly 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        match <[u8; Self::LENGTH_BYTES]>::try_from(bytes) {
            Ok(key) => Ok(Self(SecretBox::new(Box::new(key)))),
            Err(_) => Err(StoreError::Settings(format!(
                "a master key is exactly {} bytes, this one has {}; make one with: head -c 32 /dev/urandom > FILE",
                Self::LENGTH_BYTES,
                bytes.len()
            ))),
        }
    }
}

/// What a sealed value is bound to: moved anywhere else, it does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// Absent for the store's own.
    pub workspace_id: Option<&'p WorkspaceId>,
    pub table: &'p str,
    pub row_id: &'p str,
}

impl Place<'_> {
    /// Each part behind its length, so that no two places read the same.
    fn associated_data(self) -> Vec<u8> {
        let mut data = b"neuralhub seal 1".to_vec();
        for part in [self.workspace_id.map_or("", |id| id.as_str()), self.table, self.row_id] {
            data.extend_from_slice(&(part.len() as u64).to_le_bytes());
            data.extend_from_slice(part.as_bytes());
        }
        data
    }
}

/// A value under AES-256-GCM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Names the key that it is under: see [`Sealer::key_id`].
    pub key_id: Vec<u8>,
    /// The nonce (12 bytes), then the ciphertext with its tag.
    pub bytes: Vec<u8>,
}

struct SealKey {
    id: Vec<u8>,
    cipher: Aes256Gcm,
    signer: Hmac<Sha256>,
}

impl SealKey {
    fn new(master: &MasterKey) -> Self {
        // The id is public, so it is a hash that says nothing about the key.
        let mut digest = Sha256::new();
        digest.update(b"neuralhub master key id");
        digest.update(master.0.expose_secret());
        let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*master.0.expose_secret()));
        let signer = hmac(master.0.expose_secret(), b"neuralhub signing key 1");
        Self { id: digest.finalize()[..8].to_vec(), cipher, signer: keyed(&signer.finalize().into_bytes()) }
    }

    /// HMAC-SHA256 (RFC 2104) of the message, under a key of its own for each purpose.
    fn code(&self, purpose: &str, message: &[u8]) -> Hmac<Sha256> {
        let mut key = self.signer.clone();
        key.update(purpose.as_bytes());
        hmac(&key.finalize().into_bytes(), message)
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // A key of any length fits.
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

fn hmac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut code = keyed(key);
    code.update(message);
    code
}

/// Seals under one master key; opens under it and under older ones.
pub struct Sealer {
    current: SealKey,
    old: Vec<SealKey>,
    ids: SharedIds,
}

impl Sealer {
    pub fn new(master: &MasterKey, old_masters: &[MasterKey], ids: SharedIds) -> Self {
        Self { current: SealKey::new(master), old: old_masters.iter().map(SealKey::new).collect(), ids }
    }

    /// Names the key that [`Sealer::seal`] uses, without telling it.
    pub fn key_id(&self) -> &[u8] {
        &self.current.id
    }

    pub fn seal(&self, place: Place<'_>, plaintext: &SecretSlice<u8>) -> Result<Sealed, StoreError> {
        let mut nonce = [0; NONCE_BYTES];
        self.ids.fill(&mut nonce);
        let payload = Payload { msg: plaintext.expose_secret(), aad: &place.associated_data() };
        let ciphertext = self
            .current
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| StoreError::Unstorable("the value is too long to be sealed".to_owned()))?;
        Ok(Sealed { key_id: self.current.id.clone(), bytes: [nonce.as_slice(), &ciphertext].concat() })
    }

    /// A code that only the holder of the master key can give the message. What is
    /// signed for one purpose counts for no other.
    pub fn sign(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        self.current.code(purpose, message).finalize().into_bytes().into()
    }

    /// Whether the code is one of [`Sealer::sign`], under this or an older master key.
    pub fn is_signed(&self, purpose: &str, message: &[u8], code: &[u8]) -> bool {
        let mut keys = std::iter::once(&self.current).chain(&self.old);
        keys.any(|key| key.code(purpose, message).verify_slice(code).is_ok())
    }

    pub fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<SecretSlice<u8>, StoreError> {
        let fails = || StoreError::Unsealable { table: place.table.to_owned() };
        let mut keys = std::iter::once(&self.current).chain(&self.old);
        let key = keys.find(|key| key.id == sealed.key_id).ok_or_else(fails)?;
        let (nonce, ciphertext) = sealed.bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(fails)?;
        let payload = Payload { msg: ciphertext, aad: &place.associated_data() };
        let plaintext = key.cipher.decrypt(&Nonce::from(*nonce), payload).map_err(|_| fails())?;
        Ok(plaintext.into())
    }
}
