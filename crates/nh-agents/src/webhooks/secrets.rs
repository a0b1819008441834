use nh_store::webhooks::{MakeSecret, SecretRecord, signing, signing_secrets};
use nh_store::{Idempotency, Once, StoreError};
use nh_types::WorkspaceId;
use nh_types::webhook::{PreviousSecret, RotatedSecret, SecretView};
use secrecy::SecretSlice;

use super::sign;
use crate::hub::Hub;

/// How long a secret that was rotated out signs beside its successor: 24 h.
pub const OLD_SIGNS_MS: i64 = 24 * 3600 * 1000;

/// What became of a rotation.
pub enum Rotated {
    Done(RotatedSecret),
    /// Its Idempotency-Key made a secret before, which is shown only once.
    Repeated,
    /// Its Idempotency-Key came before with another body.
    Mismatch,
}

/// Makes a secret that signs from now on; the one before signs too for a while.
pub async fn rotate(
    hub: &Hub,
    workspace_id: &WorkspaceId,
    once: Option<Idempotency>,
) -> Result<Rotated, StoreError> {
    let now = hub.clock.now();
    let old_until = now.plus_millis(OLD_SIGNS_MS);
    let known = signing(&hub.store, workspace_id, now).await?;
    let previous_expires_at = known.iter().any(|secret| secret.expires_at.is_none()).then_some(old_until);
    let secret = sign::new_secret(hub.ids.as_ref());
    let (sealer, ids) = (&hub.webhooks.sealer, hub.ids.as_ref());
    let make = MakeSecret::sealing(sealer, ids, workspace_id, &secret, now, Some(old_until))?;
    Ok(match hub.store.write_once(once, make).await? {
        Once::First(_) => Rotated::Done(RotatedSecret {
            secret: sign::written(&secret),
            created_at: now,
            previous_expires_at,
        }),
        Once::Replay(_) => Rotated::Repeated,
        Once::Mismatch => Rotated::Mismatch,
    })
}

pub async fn secret_view(hub: &Hub, workspace_id: &WorkspaceId) -> Result<SecretView, StoreError> {
    let known = signing(&hub.store, workspace_id, hub.clock.now()).await?;
    let current = known.iter().find(|secret| secret.expires_at.is_none());
    let previous = known.iter().filter_map(|secret| {
        let SecretRecord { created_at, expires_at, .. } = secret;
        Some(PreviousSecret { created_at: *created_at, expires_at: (*expires_at)? })
    });
    Ok(SecretView { created_at: current.map(|secret| secret.created_at), previous: previous.collect() })
}

impl Hub {
    /// What signs the workspace's deliveries. There is always something: the
    /// first delivery makes a secret where there is none.
    pub(super) async fn signing_secrets(
        &self,
        workspace_id: &WorkspaceId,
    ) -> Result<Vec<SecretSlice<u8>>, StoreError> {
        let (sealer, now) = (&self.webhooks.sealer, self.clock.now());
        let secrets = signing_secrets(&self.store, sealer, workspace_id, now).await?;
        if !secrets.is_empty() {
            return Ok(secrets);
        }
        let secret = sign::new_secret(self.ids.as_ref());
        let make = MakeSecret::sealing(sealer, self.ids.as_ref(), workspace_id, &secret, now, None)?;
        // Should another node have been first, its secret is the one.
        self.store.write(make).await?;
        signing_secrets(&self.store, sealer, workspace_id, now).await
    }
}
