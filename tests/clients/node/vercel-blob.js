// What the tests of @vercel/blob share: where the client is pointed, names that no
// other test has, and how an answer is looked at.
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { BlobNotFoundError, del, getDownloadUrl, head, list } from "@vercel/blob";

export const { HUB_URL, HUB_KEY } = process.env;

// The client reads these at each call. With VERCEL_OIDC_TOKEN and BLOB_STORE_ID it
// would send that token instead of the key, and without VERCEL_BLOB_RETRIES it
// would try a failure again for half an hour.
for (const name of Object.keys(process.env)) {
  if (/^(NEXT_PUBLIC_)?(VERCEL|BLOB)_/.test(name)) delete process.env[name];
}
process.env.VERCEL_BLOB_API_URL = `${HUB_URL}/v1/storage/vercel`;
process.env.BLOB_READ_WRITE_TOKEN = HUB_KEY;
process.env.VERCEL_BLOB_RETRIES = "0";

export const open = { access: "public" };
export const secret = { access: "private" };
export const withKey = { authorization: `Bearer ${HUB_KEY}` };
export const withoutKey = {};

export const mebibyte = 1024 * 1024;
export const sample = randomBytes(300_000);

export function* slices(bytes, size) {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

// Each name is in a folder of its own, so that no test meets another's blobs.
export const root = `vercel-blob-${randomUUID()}`;
let folders = 0;
export const fresh = (name) => `${root}/${++folders}/${name}`;

// The hub answers pathnames with the workspace before them.
export const named = (pathname) => pathname.replace(/^ws_[a-z0-9]+\//, "");
// The names of blobs and folders, from `folder` on.
export const below = (folder, found) =>
  found.map((each) => named(each.pathname ?? each).slice(folder.length));

export function assertBlob(blob, name) {
  for (const field of ["url", "downloadUrl", "pathname", "contentType", "contentDisposition", "etag"]) {
    assert.equal(typeof blob[field], "string", field);
    assert.notEqual(blob[field], "", field);
  }
  assert.match(blob.pathname, /^ws_/);
  if (name instanceof RegExp) assert.match(named(blob.pathname), name);
  else assert.equal(named(blob.pathname), name);
  const url = new URL(blob.url);
  assert.equal(url.origin, new URL(HUB_URL).origin);
  assert.equal(decodeURIComponent(url.pathname), `/v1/storage/${blob.pathname}`);
  assert.equal(blob.downloadUrl, getDownloadUrl(blob.url));
}

// The client's own `get` asks only Vercel's hosts, so bytes are read from their URL.
export async function read(url, headers = withKey) {
  const answer = await fetch(url, { headers });
  assert.equal(answer.status, 200, `GET ${url}`);
  return { bytes: Buffer.from(await answer.arrayBuffer()), headers: answer.headers };
}

export async function assertHolds(url, expected, headers) {
  const { bytes } = await read(url, headers);
  assert.equal(bytes.length, Buffer.byteLength(expected), `the length of ${url}`);
  assert.ok(bytes.equals(Buffer.from(expected)), `${url} has other bytes than were put`);
}

// Exactly this error: what the client makes of a code that it does not know is a
// BlobError too.
export async function assertRefused(promise, expected, message = /./) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.constructor, expected, `${error.constructor.name}: ${error.message}`);
    assert.match(error.message, message);
    return true;
  });
}

export async function assertGone(urlOrPathname) {
  await assertRefused(head(urlOrPathname), BlobNotFoundError);
}

// All pages of a list, and how many there were.
export async function walk(options) {
  const all = { count: 0, blobs: [], folders: [] };
  let cursor;
  do {
    assert.ok(all.count < 20, "the pages come to no end");
    const page = await list({ ...options, cursor });
    const { blobs, folders = [], hasMore } = page;
    assert.ok(blobs.length + folders.length <= (options.limit ?? 1000), "the page is longer than its limit");
    assert.equal(typeof hasMore, "boolean");
    assert.equal(typeof page.cursor, hasMore ? "string" : "undefined");
    all.count++;
    all.blobs.push(...blobs);
    all.folders.push(...folders);
    cursor = page.cursor;
  } while (cursor);
  return all;
}

export async function withEnvironment(name, value, work) {
  const before = process.env[name];
  process.env[name] = value;
  try {
    return await work();
  } finally {
    process.env[name] = before;
  }
}

// Told by undici, which the client sends its requests with.
export async function countRequests(work) {
  let requests = 0;
  const count = () => requests++;
  subscribe("undici:request:create", count);
  try {
    await work();
  } finally {
    unsubscribe("undici:request:create", count);
  }
  return requests;
}

// The last test of each file.
export async function deleteEverything() {
  const everything = { prefix: `${root}/` };
  const { blobs } = await walk(everything);
  await del(blobs.map((blob) => blob.pathname));
  assert.deepEqual((await list(everything)).blobs, []);
}
