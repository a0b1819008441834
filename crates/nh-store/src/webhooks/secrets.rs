use nh_types::{Ids, Timestamp, WorkspaceId};
use secrecy::SecretSlice;

use crate::columns::Columns;
use crate::seals::{self, Put, Remove, Sealer};
use crate::sql::{Row, args};
use crate::{Store, StoreError, Tx, Write};

const TABLE: &str = "webhook_secrets";

/// Secrets that sign at once: the current one and those before it. A receiver
/// tries each signature, so there must be few.
const MAX_SIGNING: u32 = 3;

/// What is known of a secret without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    pub id: String,
    pub created_at: Timestamp,
    /// Of one that was rotated out: until then it signs too.
    pub expires_at: Option<Timestamp>,
}

fn record(row: &Row) -> Result<SecretRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(SecretRecord {
        id: columns.text()?,
        created_at: columns.time()?,
        expires_at: columns.optional_time()?,
    })
}

/// The secrets that sign now: the current one, if there is one, then those
/// before it.
pub async fn signing(
    store: &Store,
    workspace_id: &WorkspaceId,
    now: Timestamp,
) -> Result<Vec<SecretRecord>, StoreError> {
    store
        .all(
            "select id, created_at, expires_at from webhook_secrets where workspace_id = $1 \
             and (expires_at is null or expires_at > $2) \
             order by case when expires_at is null then 0 else 1 end, expires_at desc limit $3",
            args![workspace_id, now, MAX_SIGNING],
            record,
        )
        .await
}

/// The same, opened.
pub async fn signing_secrets(
    store: &Store,
    sealer: &Sealer,
    workspace_id: &WorkspaceId,
    now: Timestamp,
) -> Result<Vec<SecretSlice<u8>>, StoreError> {
    let mut secrets = Vec::new();
    for SecretRecord { id, .. } in signing(store, workspace_id, now).await? {
        // One that is gone was removed between the two looks.
        secrets.extend(seals::open(store, sealer, workspace_id, TABLE, &id).await?);
    }
    Ok(secrets)
}

/// Makes the workspace's signing secret: its first, or one in place of the
/// current one, which goes on signing for a while.
pub struct MakeSecret {
    workspace_id: WorkspaceId,
    id: String,
    put: Put,
    now: Timestamp,
    /// None: only if there is no current one.
    old_until: Option<Timestamp>,
}

impl MakeSecret {
    pub fn sealing(
        sealer: &Sealer,
        ids: &dyn Ids,
        workspace_id: &WorkspaceId,
        secret: &SecretSlice<u8>,
        now: Timestamp,
        old_until: Option<Timestamp>,
    ) -> Result<Self, StoreError> {
        let id = ids.uuid_v7(now).to_string();
        let put = Put::sealing(sealer, workspace_id, TABLE, &id, secret)?;
        Ok(Self { workspace_id: workspace_id.clone(), id, put, now, old_until })
    }

    /// Removes the secrets that no longer sign.
    async fn remove_old(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let old = tx
            .returning(
                "delete from webhook_secrets where workspace_id = $1 and expires_at is not null \
                 and (expires_at <= $2 or id not in (select id from webhook_secrets where workspace_id = $1 \
                 order by case when expires_at is null then 0 else 1 end, expires_at desc limit $3)) returning id",
                args![&self.workspace_id, self.now, MAX_SIGNING],
            )
            .await?;
        for row in &old {
            let (workspace_id, row_id) = (self.workspace_id.clone(), Columns::of(row).text()?);
            Remove { workspace_id, table: TABLE, row_id }.apply(tx).await?;
        }
        Ok(())
    }
}

impl Write for MakeSecret {
    /// False: there is a current one.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        if let Some(until) = self.old_until {
            tx.execute(
                "update webhook_secrets set expires_at = $2 where workspace_id = $1 and expires_at is null",
                args![&self.workspace_id, until],
            )
            .await?;
        }
        let made = tx
            .execute(
                "insert into webhook_secrets (workspace_id, id, created_at) values ($1, $2, $3) \
                 on conflict do nothing",
                args![&self.workspace_id, &self.id, self.now],
            )
            .await?;
        if made == 0 && self.old_until.is_some() {
            return Err(StoreError::Conflict("another node is making a signing secret".to_owned()));
        }
        if made > 0 {
            self.put.apply(tx).await?;
            self.remove_old(tx).await?;
        }
        Ok(made > 0)
    }
}
