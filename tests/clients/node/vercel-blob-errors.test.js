// The real, unmodified @vercel/blob against a running hub: keys and calls that are
// refused, and the base URL. scripts/test-clients starts the hub and sets HUB_URL
// and HUB_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BlobAccessError,
  BlobError,
  BlobNotFoundError,
  copy,
  createFolder,
  del,
  head,
  issueSignedToken,
  list,
  put,
  rename,
} from "@vercel/blob";
import {
  HUB_URL,
  assertBlob,
  assertGone,
  assertHolds,
  assertRefused,
  countRequests,
  deleteEverything,
  fresh,
  mebibyte,
  open,
  root,
  secret,
  withEnvironment,
  withKey,
} from "./vercel-blob.js";

const stranger = { token: `nh_${"0".repeat(40)}` };
const large = Buffer.alloc(12 * mebibyte);

const calls = [
  ["head", (options) => head(fresh("a.txt"), options)],
  ["list", (options) => list(options)],
  ["put", (options) => put(fresh("a.txt"), "x", { ...open, ...options })],
  ["put of a large Buffer", (options) => put(fresh("a.bin"), large, { ...open, ...options })],
  [
    "put of a large stream",
    (options) => put(fresh("a.bin"), new Blob([large]).stream(), { ...open, ...options }),
  ],
  ["put in parts", (options) => put(fresh("a.txt"), "x", { ...open, multipart: true, ...options })],
  ["copy", (options) => copy(fresh("a.txt"), fresh("b.txt"), { ...open, ...options })],
  ["rename", (options) => rename(fresh("a.txt"), fresh("b.txt"), { ...open, ...options })],
  ["createFolder", (options) => createFolder(fresh("dir"), options)],
  ["del", (options) => del(fresh("a.txt"), options)],
];
for (const [what, call] of calls) {
  test(`errors: ${what} with a wrong key is an access error`, async () => {
    await assertRefused(call(stranger), BlobAccessError);
  });
}

test("errors: del with a wrong key deletes nothing", async () => {
  const { url } = await put(fresh("a.txt"), "x", open);
  await assertRefused(del(url, stranger), BlobAccessError);
  await assertHolds(url, "x");
});

test("errors: a token of Vercel's is an access error", async () => {
  await assertRefused(list({ token: "vercel_blob_rw_store123_secret456" }), BlobAccessError);
});

test("errors: a key without the scope is an access error", async () => {
  const answer = await fetch(`${HUB_URL}/v1/keys`, {
    method: "POST",
    headers: { ...withKey, "content-type": "application/json" },
    body: JSON.stringify({ name: "reads blobs", scopes: ["storage:read"] }),
  });
  const { key: token } = await answer.json();
  await list({ token });
  await assertRefused(put(fresh("a.txt"), "x", { ...open, token }), BlobAccessError);
});

test("errors: what cannot succeed is not tried again", async () => {
  const requests = await withEnvironment("VERCEL_BLOB_RETRIES", "1", () =>
    countRequests(async () => {
      await assertRefused(head(fresh("a.txt"), stranger), BlobAccessError);
      await assertRefused(head(fresh("missing.txt")), BlobNotFoundError);
      await assertRefused(
        issueSignedToken({ pathname: fresh("a.txt") }),
        BlobError,
        /does not have that call/,
      );
    }),
  );
  assert.equal(requests, 3);
});

test("errors: a pathname that leaves its place is refused in words", async () => {
  await assertRefused(put(`${root}/../up.txt`, "x", secret), BlobError, /has the segment `\.\.`/);
  await assertRefused(put(`/${root}/lead.txt`, "x", secret), BlobError, /no slash at its beginning/);
});

test("every call works where the base URL ends in a slash", async () => {
  await withEnvironment("VERCEL_BLOB_API_URL", `${HUB_URL}/v1/storage/vercel/`, async () => {
    const [name, copied, renamed, cut] = [fresh("a.txt"), fresh("b.txt"), fresh("c.txt"), fresh("d.txt")];
    const { url } = await put(name, "x", open);
    assert.equal((await head(url)).size, 1);
    assertBlob(await copy(url, copied, open), copied);
    assertBlob(await rename(copied, renamed, open), renamed);
    assertBlob(await put(cut, "in parts", { ...open, multipart: true }), cut);
    const folder = await createFolder(fresh("dir"));
    assert.equal((await list({ prefix: renamed })).blobs.length, 1);
    await del([name, renamed, cut, folder.url]);
    await assertGone(name);
    await assertGone(folder.url);
  });
});

test("del: everything that these tests made", deleteEverything);
