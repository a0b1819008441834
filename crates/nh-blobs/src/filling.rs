//! The bytes of an upload on their way into places. Each place is reserved before
//! it is filled, and all are held off the waste while more comes.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use nh_store::blobs::{Discard, Emptied, Piece, Renew, Reserve};
use nh_types::Timestamp;

use crate::blobs::{BlobError, HOLD_MS, Inner, LOWER, PLACE_LETTERS, took_too_long};
use crate::coming::Room;
use crate::places::{Places, Writing, Written};

/// An upload says so often that it is still going on.
const RENEW_EVERY_MS: i64 = 60_000;

struct Filling<'a> {
    inner: &'a Inner,
    room: Room,
    writing: Writing,
    pieces: Vec<Piece>,
    size: u64,
    held_at: Timestamp,
}

impl Inner {
    /// Fills places with all that comes. It is durable when this answers; of what is
    /// refused or breaks off nothing is left.
    pub(crate) async fn fill<E: From<BlobError>>(
        &self,
        room: Room,
        first: Bytes,
        body: Pin<&mut impl Stream<Item = Result<Bytes, E>>>,
    ) -> Result<(Written, Vec<Piece>), E> {
        let (writing, held_at) = (Writing::new(&self.places), self.clock.now());
        let mut filling = Filling { inner: self, room, writing, pieces: Vec::new(), size: 0, held_at };
        match filling.take_all(first, body).await {
            Ok(()) => Ok(filling.finish().await?),
            Err(error) => {
                filling.give_up().await;
                Err(error)
            }
        }
    }

    /// Empties places that are no object's, at once. What cannot be done now the sweep
    /// does.
    pub(crate) async fn discard(&self, pieces: &[Piece]) {
        let places = pieces.iter().map(|Piece(place, _)| place.clone()).collect();
        if let Err(error) = self.empty(places).await {
            tracing::warn!(%error, "what an upload left could not be removed yet");
        }
    }

    async fn empty(&self, places: Vec<String>) -> Result<(), BlobError> {
        let condemned = self.store.write(Discard(places)).await?;
        for place in &condemned {
            self.places.remove(place).await?;
        }
        Ok(self.store.write(Emptied(condemned)).await?)
    }

    fn until(&self) -> Timestamp {
        self.clock.now().plus_millis(HOLD_MS)
    }

    /// False: it took so long that one was taken for waste.
    async fn hold(&self, pieces: &[Piece]) -> Result<bool, BlobError> {
        let places = pieces.iter().map(|Piece(place, _)| place.clone()).collect();
        Ok(self.store.write(Renew { places, until: self.until() }).await?)
    }

    /// A place may have been written after the sweep had emptied it.
    async fn too_late(&self, pieces: &[Piece]) -> BlobError {
        for Piece(place, _) in pieces {
            if let Err(error) = self.places.remove(place).await {
                return error;
            }
        }
        took_too_long().into()
    }
}

impl Filling<'_> {
    async fn take_all<E: From<BlobError>>(
        &mut self,
        first: Bytes,
        mut body: Pin<&mut impl Stream<Item = Result<Bytes, E>>>,
    ) -> Result<(), E> {
        self.take(first).await?;
        while let Some(more) = body.next().await {
            self.take(more?).await?;
        }
        Ok(())
    }

    /// A piece that is on its way to a bucket may come there later than now: of those
    /// the sweep takes care.
    async fn give_up(self) {
        let Self { inner, writing, pieces, .. } = self;
        drop(writing);
        if matches!(inner.places, Places::Files(_)) {
            inner.discard(&pieces).await;
        }
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<(), BlobError> {
        self.size += bytes.len() as u64;
        self.inner.check_size(self.size)?;
        self.room.take(bytes.len() as u64)?;
        while !bytes.is_empty() {
            if self.writing.room() == 0 {
                self.begin_piece().await?;
            }
            let part = bytes.split_to(bytes.len().min(self.writing.room()));
            if let Some(Piece(_, size)) = self.pieces.last_mut() {
                *size += part.len() as u64;
            }
            self.writing.write(part).await?;
        }
        if self.inner.clock.now().millis_since(self.held_at) >= RENEW_EVERY_MS {
            if !self.inner.hold(&self.pieces).await? {
                self.writing = Writing::new(&self.inner.places);
                return Err(self.inner.too_late(&self.pieces).await);
            }
            self.held_at = self.inner.clock.now();
        }
        Ok(())
    }

    async fn finish(self) -> Result<(Written, Vec<Piece>), BlobError> {
        let written = self.writing.finish().await?;
        if !self.inner.hold(&self.pieces).await? {
            return Err(self.inner.too_late(&self.pieces).await);
        }
        Ok((written, self.pieces))
    }

    async fn begin_piece(&mut self) -> Result<(), BlobError> {
        let place = self.inner.ids.text(LOWER, PLACE_LETTERS);
        self.inner.store.write(Reserve { place: place.clone(), until: self.inner.until() }).await?;
        self.pieces.push(Piece(place.clone(), 0));
        self.writing.go_to(&place).await?;
        Ok(())
    }
}
