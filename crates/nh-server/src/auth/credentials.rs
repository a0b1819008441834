//! From a key or a session's token to a [`Principal`], with a cache for keys.
//!
//! A cached key is good for one value of the store's credential epoch, which
//! every revocation raises. The epoch is read about every 200 ms, as long as
//! requests come: beside them, and by the first one after a pause. So a revoked
//! key is refused within a second on every node; while the store cannot be read
//! for longer than that, nobody gets in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;
use nh_store::keys::{self, KeyRecord};
use nh_store::sessions::{self, SessionRecord};
use nh_store::users::Role;
use nh_store::{StoreError, credentials};
use nh_types::key::KeyLimits;
use nh_types::{ErrorCode, KeyId, Scope, ScopeSet, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::api_key::ApiKey;
use super::{Credential, Principal, SESSION_IDLE_MS, SessionToken};
use crate::app::App;
use crate::failure::{Answer, Failure};

/// An epoch read within so long is taken as it is.
const FRESH_MS: i64 = 250;
/// How often it is read while requests come: before it is that old.
const RENEW_EVERY: Duration = Duration::from_millis(200);
/// Within so long it still serves those who do not read it themselves.
const USABLE_MS: i64 = 1000;
const MAX_CACHED_KEYS: u64 = 10_000;
/// `last_used_at` and `last_seen_at` are noted at most so often.
const NOTE_EVERY_MS: i64 = 10_000;

/// A key as it was at one epoch.
struct Cached {
    principal: Arc<Principal>,
    epoch: i64,
    expires_at: Option<Timestamp>,
    noted_at_ms: AtomicI64,
}

/// When the epoch was last read, and what it was.
#[derive(Clone, Copy)]
struct Read {
    epoch: i64,
    at: Timestamp,
}

/// What was used since the last flush.
#[derive(Default)]
struct Used {
    keys: HashMap<(WorkspaceId, KeyId), Timestamp>,
    sessions: HashMap<[u8; 32], Timestamp>,
}

/// Names a credential without being one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum CredentialHash {
    Key([u8; 32]),
    Session([u8; 32]),
}

impl From<CredentialHash> for String {
    fn from(hash: CredentialHash) -> String {
        match hash {
            CredentialHash::Key(hash) => format!("k{}", URL_SAFE_NO_PAD.encode(hash)),
            CredentialHash::Session(hash) => format!("s{}", URL_SAFE_NO_PAD.encode(hash)),
        }
    }
}

impl TryFrom<String> for CredentialHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let hash = |text: &str| URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok();
        let key = text.strip_prefix('k').and_then(hash).map(Self::Key);
        let session = || text.strip_prefix('s').and_then(hash).map(Self::Session);
        key.or_else(session).ok_or("no hash of a credential")
    }
}

impl CredentialHash {
    pub(crate) fn of(principal: &Principal) -> Self {
        match &principal.credential {
            Credential::Key { hash, .. } => Self::Key(*hash),
            Credential::Session { token_hash, .. } => Self::Session(*token_hash),
        }
    }
}

pub(crate) struct Credentials {
    cache: Cache<[u8; 32], Arc<Cached>>,
    read: Mutex<Option<Read>>,
    /// When the epoch last could not be read, in ms since 1970: those who
    /// waited for that try do not each make their own.
    failed_at_ms: AtomicI64,
    /// Since it was last renewed.
    is_wanted: AtomicBool,
    /// Held by the one who reads the epoch.
    reading: tokio::sync::Mutex<()>,
    used: Mutex<Used>,
}

impl Credentials {
    pub(crate) fn new() -> Self {
        Self {
            cache: Cache::new(MAX_CACHED_KEYS),
            read: Mutex::new(None),
            failed_at_ms: AtomicI64::new(0),
            is_wanted: AtomicBool::new(false),
            reading: tokio::sync::Mutex::new(()),
            used: Mutex::default(),
        }
    }

    pub(crate) async fn key(&self, app: &App, key: &ApiKey) -> Answer<Arc<Principal>> {
        self.key_by_hash(app, key.hash()).await
    }

    async fn key_by_hash(&self, app: &App, hash: [u8; 32]) -> Answer<Arc<Principal>> {
        let epoch = self.epoch(app).await;
        let now = app.clock.now();
        let known = epoch.and_then(|epoch| self.cache.get(&hash).filter(|cached| cached.epoch == epoch));
        let cached = match known {
            Some(cached) => cached,
            None => Box::pin(self.look_up(app, hash, epoch)).await?,
        };
        if cached.expires_at.is_some_and(|end| end <= now) {
            return Err(refused("the API key has expired; create a new one"));
        }
        let noted_at_ms = cached.noted_at_ms.load(Ordering::Relaxed);
        if (now.as_millis() - noted_at_ms).abs() >= NOTE_EVERY_MS {
            cached.noted_at_ms.store(now.as_millis(), Ordering::Relaxed);
            self.note_key(&cached.principal, now);
        }
        Ok(cached.principal.clone())
    }

    /// Reads the key from the store. It is cached under the epoch read
    /// *before*, so a revocation in between is seen at the next use.
    async fn look_up(&self, app: &App, hash: [u8; 32], epoch: Option<i64>) -> Answer<Arc<Cached>> {
        let found = keys::find_by_hash(&app.hub.store, &hash).await?;
        let record = found.filter(|record| record.revoked_at.is_none());
        let record = record.ok_or_else(|| refused("the API key is unknown or was revoked"))?;
        let cached = Arc::new(Cached {
            expires_at: record.expires_at,
            principal: Arc::new(key_principal(record)),
            epoch: epoch.unwrap_or_default(),
            noted_at_ms: AtomicI64::new(0),
        });
        if epoch.is_some() {
            self.cache.insert(hash, cached.clone());
        }
        Ok(cached)
    }

    /// Sessions are people in a browser: few enough to be read each time.
    pub(crate) async fn session(&self, app: &App, token: &SessionToken) -> Answer<Arc<Principal>> {
        self.session_by_hash(app, token.hash()).await
    }

    pub(crate) async fn session_by_hash(&self, app: &App, hash: [u8; 32]) -> Answer<Arc<Principal>> {
        let now = app.clock.now();
        let found = sessions::find(&app.hub.store, &hash).await?;
        let live = found.filter(|session| {
            session.expires_at > now && now.millis_since(session.last_seen_at) < SESSION_IDLE_MS
        });
        let session = live.ok_or_else(|| refused("the session has ended; sign in again"))?;
        if now.millis_since(session.last_seen_at) >= NOTE_EVERY_MS {
            self.used().sessions.insert(hash, now);
        }
        Ok(Arc::new(session_principal(session)))
    }

    /// Whether a credential that was good when a long answer began is so still.
    pub(crate) async fn is_still_good(&self, app: &App, principal: &Principal) -> bool {
        let again = self.again(app, &CredentialHash::of(principal)).await;
        again.is_ok_and(|now| now.workspace_id == principal.workspace_id)
    }

    /// The caller of earlier, if the credential is good still.
    pub(crate) async fn again(&self, app: &App, hash: &CredentialHash) -> Answer<Arc<Principal>> {
        match hash {
            CredentialHash::Key(hash) => self.key_by_hash(app, *hash).await,
            CredentialHash::Session(hash) => self.session_by_hash(app, *hash).await,
        }
    }

    /// Forgets what is cached, at once, in this process.
    pub(crate) fn forget(&self) {
        self.cache.invalidate_all();
        *self.last_read() = None;
    }

    /// Reads the epoch anew as long as requests come, so that none of them waits for that.
    pub(crate) async fn keep_fresh(&self, app: &App) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEW_EVERY) => {}
                () = app.stopping.cancelled() => return,
            }
            if self.is_wanted.swap(false, Ordering::Relaxed) {
                let _reading = self.reading.lock().await;
                self.read_epoch(app).await;
            }
        }
    }

    /// None: the store could not be read in time, so nothing cached counts.
    async fn epoch(&self, app: &App) -> Option<i64> {
        self.is_wanted.store(true, Ordering::Relaxed);
        if let Some(epoch) = self.read_within(app, FRESH_MS) {
            return Some(epoch);
        }
        let _reading = match (self.reading.try_lock(), self.read_within(app, USABLE_MS)) {
            (Ok(guard), _) => guard,
            (Err(_), Some(epoch)) => return Some(epoch),
            (Err(_), None) => self.reading.lock().await,
        };
        if let Some(epoch) = self.read_within(app, FRESH_MS) {
            return Some(epoch);
        }
        let since_failure_ms = app.clock.now().as_millis() - self.failed_at_ms.load(Ordering::Relaxed);
        if (0..FRESH_MS).contains(&since_failure_ms) {
            return self.read_within(app, USABLE_MS);
        }
        self.read_epoch(app).await
    }

    async fn read_epoch(&self, app: &App) -> Option<i64> {
        // Taken before the read begins: what is revoked during it is not in it.
        let at = app.clock.now();
        match credentials::epoch(&app.hub.store).await {
            Ok(epoch) => {
                *self.last_read() = Some(Read { epoch, at });
                Some(epoch)
            }
            Err(error) => {
                tracing::warn!(%error, "the credential epoch cannot be read");
                self.failed_at_ms.store(app.clock.now().as_millis(), Ordering::Relaxed);
                // The failed try took its time too.
                self.read_within(app, USABLE_MS)
            }
        }
    }

    /// The epoch, if it was read less than `age_ms` ago.
    fn read_within(&self, app: &App, age_ms: i64) -> Option<i64> {
        let read = (*self.last_read())?;
        (0..age_ms).contains(&app.clock.now().millis_since(read.at)).then_some(read.epoch)
    }

    fn last_read(&self) -> std::sync::MutexGuard<'_, Option<Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_key(&self, principal: &Principal, at: Timestamp) {
        if let Some(id) = principal.key_id() {
            self.used().keys.insert((principal.workspace_id.clone(), id), at);
        }
    }

    /// Writes down when keys and sessions were last used.
    pub(crate) async fn flush(&self, app: &App) -> Result<(), StoreError> {
        let used = std::mem::take(&mut *self.used());
        if !used.keys.is_empty() {
            let rows = used.keys.into_iter().map(|((workspace_id, id), at)| (workspace_id, id, at));
            app.hub.store.write(keys::Touch(rows.collect())).await?;
        }
        if !used.sessions.is_empty() {
            app.hub.store.write(sessions::Touch(used.sessions.into_iter().collect())).await?;
        }
        Ok(())
    }
}

fn refused(message: &str) -> Failure {
    Failure::new(ErrorCode::InvalidCredential, message)
}

fn key_principal(record: KeyRecord) -> Principal {
    Principal {
        workspace_id: record.workspace_id,
        scopes: record.scopes,
        credential: Credential::Key {
            id: record.id,
            hash: record.hash,
            rate_limit: record.rate_limit,
            is_limited: record.expires_at.is_some()
                || record.rate_limit.is_some()
                || record.limits != KeyLimits::default(),
            limits: record.limits,
        },
    }
}

fn session_principal(session: SessionRecord) -> Principal {
    Principal {
        workspace_id: session.workspace_id,
        scopes: role_scopes(session.role),
        credential: Credential::Session {
            token_hash: session.token_hash,
            user_id: session.user_id,
            role: session.role,
        },
    }
}

/// An owner may do everything; a member everything but make and end keys.
fn role_scopes(role: Role) -> ScopeSet {
    let all_but_keys = |scope: &Scope| !matches!(scope, Scope::All | Scope::KeysWrite);
    match role {
        Role::Owner => ScopeSet::all(),
        Role::Member => Scope::EVERY.iter().copied().filter(all_but_keys).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_may_do_everything_but_make_keys() {
        let member = role_scopes(Role::Member);
        for scope in Scope::EVERY {
            let expected = !matches!(scope, Scope::All | Scope::KeysWrite);
            assert_eq!(member.allows(*scope), expected, "{scope}");
        }
        assert!(role_scopes(Role::Owner).allows(Scope::KeysWrite));
    }
}
