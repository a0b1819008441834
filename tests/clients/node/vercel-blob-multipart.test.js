// The real, unmodified @vercel/blob against a running hub: uploads in parts.
// scripts/test-clients starts the hub and sets HUB_URL and HUB_KEY.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { test } from "node:test";
import {
  BlobError,
  BlobNotFoundError,
  BlobPreconditionFailedError,
  completeMultipartUpload,
  createMultipartUpload,
  createMultipartUploader,
  head,
  put,
  uploadPart,
} from "@vercel/blob";
import {
  assertBlob,
  assertGone,
  assertHolds,
  assertRefused,
  countRequests,
  deleteEverything,
  fresh,
  mebibyte,
  open,
  secret,
  slices,
  withoutKey,
} from "./vercel-blob.js";

// The client cuts parts of 8 MiB: these are two.
const large = 12 * mebibyte;

test("multipart: parts that come out of order, and a blob only when they are complete", async () => {
  const name = fresh("mänual.bin");
  const options = { ...open, contentType: "application/x-parts", cacheControlMaxAge: 77 };
  const data = randomBytes(11 * mebibyte);
  const { key, uploadId } = await createMultipartUpload(name, options);
  assert.ok(key && uploadId);
  await assertGone(name);
  const sent = [...slices(data, 5 * mebibyte)].map((part, index) =>
    uploadPart(name, part, { ...options, key, uploadId, partNumber: index + 1 }),
  );
  const parts = await Promise.all(sent);
  for (const part of parts) assert.ok(part.etag);
  await assertGone(name);
  const blob = await completeMultipartUpload(name, parts.reverse(), { ...options, key, uploadId });
  assertBlob(blob, name);
  assert.equal(blob.contentType, "application/x-parts");
  await assertHolds(blob.url, data);
  const found = await head(name);
  assert.equal(found.size, data.length);
  assert.match(found.cacheControl, /\bmax-age=77\b/);
});

test("multipart: of a part that is sent twice the last counts", async () => {
  const name = fresh("a.bin");
  const upload = { ...secret, ...(await createMultipartUpload(name, secret)) };
  await uploadPart(name, "first", { ...upload, partNumber: 1 });
  const part = await uploadPart(name, "again", { ...upload, partNumber: 1 });
  const { url } = await completeMultipartUpload(name, [part], upload);
  await assertHolds(url, "again");
});

test("multipart: a part that is a stream", async () => {
  const name = fresh("a.bin");
  const upload = { ...secret, ...(await createMultipartUpload(name, secret)) };
  const stream = Readable.from([Buffer.from("ab"), Buffer.from("cd")]);
  const part = await uploadPart(name, stream, { ...upload, partNumber: 1 });
  const { url } = await completeMultipartUpload(name, [part], upload);
  await assertHolds(url, "abcd");
});

test("multipart: createMultipartUploader, with a random suffix", async () => {
  const uploader = await createMultipartUploader(fresh("a.txt"), { ...open, addRandomSuffix: true });
  const first = Buffer.alloc(5 * mebibyte, "A");
  const parts = [await uploader.uploadPart(2, "BBB"), await uploader.uploadPart(1, first)];
  const blob = await uploader.complete(parts);
  assertBlob(blob, /\/a-[A-Za-z0-9_-]+\.txt$/);
  await assertHolds(blob.url, Buffer.concat([first, Buffer.from("BBB")]));
});

test("multipart: an upload that there is not", async () => {
  const name = fresh("a.bin");
  const upload = { ...secret, key: name, uploadId: "no-such-upload" };
  await assertRefused(uploadPart(name, "x", { ...upload, partNumber: 1 }), BlobNotFoundError);
  await assertRefused(
    completeMultipartUpload(name, [{ partNumber: 1, etag: "x" }], upload),
    BlobNotFoundError,
  );
});

test("multipart: parts that did not come, or are others, are refused in words", async () => {
  const name = fresh("a.bin");
  const upload = { ...secret, ...(await createMultipartUpload(name, secret)) };
  const part = await uploadPart(name, "x", { ...upload, partNumber: 1 });
  const other = { partNumber: 1, etag: "wrong" };
  const missing = { partNumber: 2, etag: part.etag };
  await assertRefused(completeMultipartUpload(name, [other], upload), BlobError, /part 1 did not come/);
  await assertRefused(
    completeMultipartUpload(name, [part, missing], upload),
    BlobError,
    /part 2 did not come/,
  );
  await assertGone(name);
});

test("multipart: onto a name that is taken, only with allowOverwrite", async () => {
  const name = fresh("a.bin");
  const { url } = await put(name, "old", open);
  const options = { ...open, multipart: true };
  await assertRefused(put(name, "new", options), BlobError, /This blob already exists/);
  await assertHolds(url, "old");
  assertBlob(await put(name, "new", { ...options, allowOverwrite: true }), name);
  await assertHolds(url, "new");
});

test("multipart: put cuts a Buffer", async () => {
  const name = fresh("a.bin");
  const data = randomBytes(large);
  // The first call, two parts and the last call.
  const requests = await countRequests(() => put(name, data, { ...secret, multipart: true }));
  assert.equal(requests, 4);
  const blob = await head(name);
  assertBlob(blob, name);
  assert.equal(blob.size, large);
  await assertHolds(blob.url, data);
});

test("multipart: put cuts a stream", async () => {
  const name = fresh("a.bin");
  const data = randomBytes(large);
  // With progress, parts have no length.
  const options = { ...secret, multipart: true, onUploadProgress() {} };
  const blob = await put(name, Readable.from(slices(data, 100_003)), options);
  assertBlob(blob, name);
  await assertHolds(blob.url, data);
});

test("multipart: put of little, with a random suffix", async () => {
  const blob = await put(fresh("a.txt"), "tiny", { ...open, multipart: true, addRandomSuffix: true });
  assertBlob(blob, /\/a-[A-Za-z0-9_-]+\.txt$/);
  await assertHolds(blob.url, "tiny", withoutKey);
});

test("multipart: put of an empty Buffer, which has no parts, is an empty blob", async () => {
  const name = fresh("empty.bin");
  assertBlob(await put(name, Buffer.alloc(0), { ...secret, multipart: true }), name);
  assert.equal((await head(name)).size, 0);
});

test("multipart: put with ifMatch replaces only what has that etag", async () => {
  const name = fresh("a.txt");
  const { etag } = await put(name, "first", open);
  const options = { ...open, multipart: true, ifMatch: etag };
  const second = await put(name, "second", options);
  await assertRefused(put(name, "third", options), BlobPreconditionFailedError);
  await assertHolds(second.url, "second");
});

test("del: everything that these tests made", deleteEverything);
