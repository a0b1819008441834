//! The sealed mark: proves that a master key is this store's.

use nh_types::WorkspaceId;
use secrecy::{ExposeSecret, SecretSlice};

use super::{Place, Sealed, Sealer};
use crate::columns::Columns;
use crate::sql::{Row, args};
use crate::{Store, StoreError, Tx, Write};

const MARK: &[u8] = b"this store belongs to this master key";
const PLACE: Place<'static> = Place { workspace_id: None, table: "meta", row_id: "seal" };

/// Secrets sealed anew in one transaction.
const ROTATION_BATCH: u32 = 200;

/// What [`prove`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The store had no mark yet; it belongs to this key from now on.
    First,
    /// The master key is the store's.
    Same,
    /// An old key was the store's: so many secrets were sealed anew.
    Rotated { secrets: u64 },
}

/// Proves at start that the master key fits this store, and seals anew under it
/// what an old key sealed. A key that does not fit is
/// [`StoreError::WrongMasterKey`]. A rotation that was cut short goes on at the
/// next start, as long as the old key is still given.
pub async fn prove(store: &Store, sealer: &Sealer) -> Result<Proof, StoreError> {
    let mark = || SecretSlice::from(MARK.to_vec());
    let ours = sealer.seal(PLACE, &mark())?;
    let Some(theirs) = store.write(FirstMark(ours.clone())).await? else { return Ok(Proof::First) };
    let opened = sealer.open(PLACE, &theirs).map_err(|_| StoreError::WrongMasterKey)?;
    if opened.expose_secret() != MARK {
        return Err(StoreError::WrongMasterKey);
    }
    // The mark moves last: while an old one stands, secrets may be left.
    let secrets = rotate_secrets(store, sealer).await?;
    if theirs.key_id == sealer.key_id() && secrets == 0 {
        return Ok(Proof::Same);
    }
    store.write(NewMark(ours)).await?;
    Ok(Proof::Rotated { secrets })
}

/// Puts the mark where none is; answers the one that is there.
struct FirstMark(Sealed);

impl Write for FirstMark {
    type Output = Option<Sealed>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Option<Sealed>, StoreError> {
        let put = tx
            .execute(
                "insert into meta (name, value) values ('seal', $1) on conflict do nothing",
                args![encode(&self.0).as_slice()],
            )
            .await?;
        if put > 0 {
            return Ok(None);
        }
        let rows = tx.select("select value from meta where name = 'seal'", args![]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("the sealed mark is gone".to_owned()))?;
        decode(&Columns::of(row).bytes()?).map(Some)
    }
}

struct NewMark(Sealed);

impl Write for NewMark {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        tx.execute("update meta set value = $1 where name = 'seal'", args![encode(&self.0).as_slice()])
            .await
            .map(drop)
    }
}

/// The key's id behind its length, then the rest.
fn encode(sealed: &Sealed) -> Vec<u8> {
    let length = u8::try_from(sealed.key_id.len()).unwrap_or(u8::MAX);
    [&[length], sealed.key_id.as_slice(), &sealed.bytes].concat()
}

fn decode(value: &[u8]) -> Result<Sealed, StoreError> {
    let parts = value.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
    let (key_id, bytes) =
        parts.ok_or_else(|| StoreError::Corrupt("the sealed mark is cut short".to_owned()))?;
    Ok(Sealed { key_id: key_id.to_vec(), bytes: bytes.to_vec() })
}

struct SecretRow {
    workspace_id: WorkspaceId,
    table: String,
    row_id: String,
    sealed: Sealed,
}

impl SecretRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let mut columns = Columns::of(row);
        Ok(Self {
            workspace_id: columns.parse()?,
            table: columns.text()?,
            row_id: columns.text()?,
            sealed: Sealed { key_id: columns.bytes()?, bytes: columns.bytes()? },
        })
    }

    fn place(&self) -> Place<'_> {
        Place { workspace_id: Some(&self.workspace_id), table: &self.table, row_id: &self.row_id }
    }
}

/// Seals anew what is not under the current key; tells how many that were.
async fn rotate_secrets(store: &Store, sealer: &Sealer) -> Result<u64, StoreError> {
    let mut rotated = 0;
    loop {
        let old = store
            .all(
                "select workspace_id, owner_table, row_id, key_id, sealed from secrets \
                 where key_id <> $1 limit $2",
                args![sealer.key_id(), ROTATION_BATCH],
                SecretRow::read,
            )
            .await?;
        if old.is_empty() {
            return Ok(rotated);
        }
        let mut changes = Vec::with_capacity(old.len());
        for secret in old {
            let plaintext = sealer.open(secret.place(), &secret.sealed)?;
            let sealed = sealer.seal(secret.place(), &plaintext)?;
            changes.push((secret, sealed));
        }
        rotated += store.write(Reseal(changes)).await?;
    }
}

struct Reseal(Vec<(SecretRow, Sealed)>);

impl Write for Reseal {
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        let mut changed = 0;
        for (secret, sealed) in &self.0 {
            // Not over a value that was put meanwhile.
            changed += tx
                .execute(
                    "update secrets set key_id = $1, sealed = $2 \
                     where workspace_id = $3 and owner_table = $4 and row_id = $5 and sealed = $6",
                    args![
                        sealed.key_id.as_slice(),
                        sealed.bytes.as_slice(),
                        &secret.workspace_id,
                        &secret.table,
                        &secret.row_id,
                        secret.sealed.bytes.as_slice(),
                    ],
                )
                .await?;
        }
        Ok(changed)
    }
}
