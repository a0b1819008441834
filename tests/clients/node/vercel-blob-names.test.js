// The real, unmodified @vercel/blob against a running hub: copy, rename, folders and
// del. scripts/test-clients starts the hub and sets HUB_URL and HUB_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BlobError,
  BlobNotFoundError,
  BlobPreconditionFailedError,
  copy,
  createFolder,
  del,
  head,
  list,
  put,
  rename,
} from "@vercel/blob";
import {
  assertBlob,
  assertGone,
  assertHolds,
  assertRefused,
  below,
  deleteEverything,
  fresh,
  named,
  open,
  secret,
  withoutKey,
} from "./vercel-blob.js";

test("copy: by URL; both have the bytes", async () => {
  const to = fresh("copy.txt");
  const blob = await put(fresh("a.txt"), "fourth", open);
  const copied = await copy(blob.url, to, open);
  assertBlob(copied, to);
  await assertHolds(copied.url, "fourth", withoutKey);
  await assertHolds(blob.url, "fourth", withoutKey);
});

test("copy: by pathname, with contentType and cacheControlMaxAge", async () => {
  const [from, to] = [fresh("a.txt"), fresh("copy.txt")];
  await put(from, "x", open);
  const copied = await copy(from, to, { ...open, contentType: "text/x-copy", cacheControlMaxAge: 90 });
  assertBlob(copied, to);
  assert.equal(copied.contentType, "text/x-copy");
  assert.match((await head(to)).cacheControl, /\bmax-age=90\b/);
});

test("copy: addRandomSuffix", async () => {
  const blob = await put(fresh("a.txt"), "x", open);
  const copied = await copy(blob.url, fresh("copy.txt"), { ...open, addRandomSuffix: true });
  assertBlob(copied, /\/copy-[A-Za-z0-9_-]+\.txt$/);
});

test("copy: onto a name that is taken, only with allowOverwrite", async () => {
  const to = fresh("copy.txt");
  const blob = await put(fresh("a.txt"), "new", open);
  const old = await put(to, "old", open);
  await assertRefused(copy(blob.url, to, open), BlobError, /This blob already exists/);
  await assertHolds(old.url, "old");
  assertBlob(await copy(blob.url, to, { ...open, allowOverwrite: true }), to);
  await assertHolds(old.url, "new");
});

test("copy: ifMatch is about what is replaced", async () => {
  const to = fresh("copy.txt");
  const blob = await put(fresh("a.txt"), "new", open);
  const old = await put(to, "old", open);
  const options = { ...open, allowOverwrite: true };
  await assertRefused(copy(blob.url, to, { ...options, ifMatch: '"no"' }), BlobPreconditionFailedError);
  await assertHolds(old.url, "old");
  await copy(blob.url, to, { ...options, ifMatch: old.etag });
  await assertHolds(old.url, "new");
});

test("copy: of what is not there", async () => {
  await assertRefused(copy(fresh("missing.txt"), fresh("copy.txt"), open), BlobNotFoundError);
});

test("rename: by pathname and by URL", async () => {
  const [first, second, third] = [fresh("first.txt"), fresh("second.txt"), fresh("third.txt")];
  await put(first, "moved", secret);
  const renamed = await rename(first, second, secret);
  assertBlob(renamed, second);
  await assertGone(first);
  await assertHolds(renamed.url, "moved");
  const again = await rename(renamed.url, third, open);
  assertBlob(again, third);
  await assertGone(second);
  await assertHolds(again.url, "moved", withoutKey);
});

test("rename: onto a name that is taken is refused, and both stay", async () => {
  const [from, to] = [fresh("from.txt"), fresh("to.txt")];
  const moving = await put(from, "moving", secret);
  const staying = await put(to, "staying", secret);
  await assertRefused(rename(from, to, secret), BlobError, /This blob already exists/);
  await assertHolds(moving.url, "moving");
  await assertHolds(staying.url, "staying");
});

test("rename: of what is not there", async () => {
  await assertRefused(rename(fresh("missing.txt"), fresh("to.txt"), open), BlobNotFoundError);
});

test("folders: one that is made is listed, and may be made again", async () => {
  const name = fresh("dir");
  const above = name.slice(0, -"dir".length);
  for (let time = 0; time < 2; time++) {
    const folder = await createFolder(name);
    assert.equal(named(folder.pathname), `${name}/`);
    assert.equal(decodeURIComponent(new URL(folder.url).pathname), `/v1/storage/${folder.pathname}`);
    const { folders } = await list({ prefix: above, mode: "folded" });
    assert.deepEqual(below(above, folders), ["dir/"]);
  }
});

test("folders: private, in another, and with a slash at the end", async () => {
  const name = fresh("dir/in/");
  assert.equal(named((await createFolder(name, secret)).pathname), name);
});

test("folders: deleted by URL", async () => {
  const { url } = await createFolder(fresh("dir"));
  await del(url);
  await assertGone(url);
});

test("del: one by URL", async () => {
  const { url } = await put(fresh("a.txt"), "x", open);
  assert.equal(await del(url), undefined);
  await assertGone(url);
});

test("del: many, by URL and by pathname", async () => {
  const [first, second] = [fresh("1.txt"), fresh("2.txt")];
  const { url } = await put(first, "x", open);
  await put(second, "x", secret);
  await del([url, second]);
  await assertGone(first);
  await assertGone(second);
});

test("del: what is not there is no error, and nothing is none", async () => {
  await del(fresh("never.txt"));
  await del([fresh("never.txt"), fresh("nor-this.txt")]);
  await del([]);
});

test("del: ifMatch deletes only what has that etag", async () => {
  const { url, etag } = await put(fresh("a.txt"), "x", open);
  await assertRefused(del(url, { ifMatch: '"no"' }), BlobPreconditionFailedError);
  assert.equal((await head(url)).size, 1);
  await del(url, { ifMatch: etag });
  await assertGone(url);
});

test("del: everything that these tests made", deleteEverything);
