// The real, unmodified @vercel/blob against a running hub: put, head and list.
// scripts/test-clients starts the hub and sets HUB_URL and HUB_KEY.
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import {
  BlobError,
  BlobPreconditionFailedError,
  BlobRequestAbortedError,
  del,
  getDownloadUrl,
  head,
  list,
  put,
} from "@vercel/blob";
import {
  assertBlob,
  assertGone,
  assertHolds,
  assertRefused,
  below,
  deleteEverything,
  fresh,
  open,
  read,
  root,
  sample,
  secret,
  slices,
  walk,
  withoutKey,
} from "./vercel-blob.js";

const shelfNames = ["1.txt", "2.txt", "3.txt", "sub/4.txt", "sub/5.txt", "sub2/x/6.txt"];
let shelf;

// The folder that the tests of `list` look into; the first of them fills it.
function filledShelf() {
  shelf ??= (async () => {
    const folder = fresh("");
    for (const name of shelfNames) await put(folder + name, name, secret);
    return folder;
  })();
  return shelf;
}

test("put: a string, public, is read without a key", async () => {
  const name = fresh("a.txt");
  const blob = await put(name, "hello wörld", open);
  assertBlob(blob, name);
  assert.match(blob.contentType, /^text\/plain/);
  await assertHolds(blob.url, "hello wörld", withoutKey);
});

test("put: a string, private, has the type of its name and not of the request", async () => {
  const name = fresh("secret.json");
  const blob = await put(name, '{"a":1}', secret);
  assertBlob(blob, name);
  assert.match(blob.contentType, /^application\/json/);
  await assertHolds(blob.url, '{"a":1}');
});

test("put: a private URL is refused without a key", async () => {
  const { url } = await put(fresh("secret.txt"), "x", secret);
  assert.equal((await fetch(url)).status, 401);
});

const bodies = [
  ["a Buffer", sample],
  ["an ArrayBuffer", new Uint8Array(sample).buffer],
  ["a Uint8Array", new Uint8Array(sample)],
  ["a File", new File([sample], "other.bin")],
  ["a Node stream, which has no length", () => Readable.from(slices(sample, 65_537))],
  ["a web stream, which has no length", () => new Blob([sample]).stream()],
];
for (const [what, body] of bodies) {
  test(`put: ${what}`, async () => {
    const name = fresh("a.bin");
    const blob = await put(name, typeof body === "function" ? body() : body, secret);
    assertBlob(blob, name);
    await assertHolds(blob.url, sample);
  });
}

test("put: an empty Buffer is an empty blob", async () => {
  const { url } = await put(fresh("empty.txt"), Buffer.alloc(0), open);
  assert.equal((await head(url)).size, 0);
  await assertHolds(url, "");
});

test("put: a Blob with a type", async () => {
  const blob = await put(fresh("a.html"), new Blob(["<p>hi"], { type: "text/html" }), secret);
  assert.match(blob.contentType, /^text\/html/);
  await assertHolds(blob.url, "<p>hi");
});

test("put: the progress is told from nothing to all", { timeout: 60_000 }, async () => {
  const told = [];
  const { promise: toldAll, resolve } = Promise.withResolvers();
  const onUploadProgress = (progress) => {
    told.push(progress);
    if (progress.percentage === 100) resolve();
  };
  const { url } = await put(fresh("a.bin"), sample, { ...secret, onUploadProgress });
  // The last is told a little after the answer.
  await toldAll;
  assert.deepEqual(told[0], { loaded: 0, total: sample.length, percentage: 0 });
  assert.deepEqual(told.at(-1), { loaded: sample.length, total: sample.length, percentage: 100 });
  await assertHolds(url, sample);
});

test("put: a stream with progress, whose x-content-length is 0", async () => {
  const { url } = await put(fresh("a.bin"), new Blob([sample]).stream(), {
    ...secret,
    onUploadProgress() {},
  });
  await assertHolds(url, sample);
});

test("put: contentType is kept as it is given", async () => {
  const contentType = "application/x-custom; v=1";
  const blob = await put(fresh("a.bin"), "x", { ...secret, contentType });
  assert.equal(blob.contentType, contentType);
  assert.equal((await head(blob.url)).contentType, contentType);
});

test("put: bytes without an extension are an octet stream", async () => {
  const blob = await put(fresh("extensionless"), Buffer.from("x"), secret);
  assert.equal(blob.contentType, "application/octet-stream");
});

test("put: cacheControlMaxAge, and a month without it", async () => {
  const short = await put(fresh("short.txt"), "x", { ...open, cacheControlMaxAge: 120 });
  assert.match((await head(short.url)).cacheControl, /\bmax-age=120\b/);
  const usual = await put(fresh("usual.txt"), "x", open);
  assert.match((await head(usual.url)).cacheControl, /\bmax-age=2592000\b/);
});

test("put: addRandomSuffix gives two blobs of one name", async () => {
  const name = fresh("a.txt");
  const first = await put(name, "1", { ...open, addRandomSuffix: true });
  const second = await put(name, "2", { ...open, addRandomSuffix: true });
  assertBlob(first, /\/a-[A-Za-z0-9_-]+\.txt$/);
  assertBlob(second, /\/a-[A-Za-z0-9_-]+\.txt$/);
  assert.notEqual(first.url, second.url);
  await assertHolds(first.url, "1");
  await assertHolds(second.url, "2");
});

test("put: addRandomSuffix false keeps the name", async () => {
  const name = fresh("a.txt");
  assertBlob(await put(name, "1", { ...open, addRandomSuffix: false }), name);
});

test("put: a pathname of odd characters is found by name and by URL", async () => {
  const name = fresh("we ird+%25/ünï&c=d?#~*'().txt");
  const blob = await put(name, "odd", open);
  assertBlob(blob, name);
  await assertHolds(blob.url, "odd", withoutKey);
  assertBlob(await head(name), name);
  assertBlob(await head(blob.url), name);
  await del(blob.url);
  await assertGone(name);
});

test("put: a pathname of 950 characters", async () => {
  const name = fresh("abcdefghi/".repeat(95)).slice(0, 949) + "x";
  assert.equal(name.length, 950);
  assertBlob(await put(name, "long", secret), name);
  assert.equal((await head(name)).size, 4);
});

test("put: a name that is taken is refused in words, unless allowOverwrite", async () => {
  const name = fresh("a.txt");
  const first = await put(name, "first", open);
  await assertRefused(put(name, "second", open), BlobError, /This blob already exists/);
  await assertRefused(
    put(name, "second", { ...open, allowOverwrite: false }),
    BlobError,
    /This blob already exists/,
  );
  await assertHolds(first.url, "first");
  const third = await put(name, "the third", { ...open, allowOverwrite: true });
  assertBlob(third, name);
  assert.equal(third.url, first.url);
  assert.notEqual(third.etag, first.etag);
  assert.equal((await head(name)).size, 9);
  await assertHolds(first.url, "the third");
});

test("put: ifMatch replaces only what has that etag", async () => {
  const name = fresh("a.txt");
  const first = await put(name, "first", open);
  const second = await put(name, "second", { ...open, ifMatch: first.etag });
  assert.notEqual(second.etag, first.etag);
  for (const ifMatch of [first.etag, '"no"']) {
    await assertRefused(put(name, "third", { ...open, ifMatch }), BlobPreconditionFailedError);
  }
  await assertHolds(second.url, "second");
});

test("put: ifMatch where there is nothing fails", async () => {
  const name = fresh("a.txt");
  await assertRefused(put(name, "x", { ...open, ifMatch: '"no"' }), BlobPreconditionFailedError);
  await assertGone(name);
});

// The last but one test sees that it is not stored later either.
test("put: what is aborted is not stored", async () => {
  const name = fresh("aborted.bin");
  const controller = new AbortController();
  let sent = 0;
  const body = new ReadableStream(
    {
      pull(stream) {
        if (sent++ < 3) stream.enqueue(new Uint8Array(65_536));
        else controller.abort();
      },
    },
    { highWaterMark: 0 },
  );
  const options = { ...secret, abortSignal: controller.signal };
  await assertRefused(put(name, body, options), BlobRequestAbortedError);
  await assertGone(name);
});

test("head: by URL, downloadUrl, pathname and answered pathname", async () => {
  const name = fresh("a.txt");
  const blob = await put(name, "fourth", open);
  for (const given of [blob.url, blob.downloadUrl, name, blob.pathname]) {
    const { size, cacheControl, uploadedAt, ...rest } = await head(given);
    assert.deepEqual(rest, blob);
    assert.equal(size, 6);
    assert.equal(typeof cacheControl, "string");
    assert.ok(Math.abs(Date.now() - uploadedAt.getTime()) < 600_000, `uploaded at ${uploadedAt}`);
  }
});

test("head: of what is not there", async () => {
  const { url } = await put(fresh("a.txt"), "x", open);
  await assertGone(fresh("missing.txt"));
  await assertGone(`${url}.missing`);
});

test("head: of another host's URL", async () => {
  await assertGone("https://example.com/a.txt");
});

test("head: downloadUrl, and what getDownloadUrl makes, are attachments", async () => {
  const { url, downloadUrl } = await put(fresh("a.txt"), "x", open);
  for (const link of [downloadUrl, getDownloadUrl(url)]) {
    const { headers } = await read(link, withoutKey);
    assert.match(headers.get("content-disposition"), /^attachment/);
  }
});

test("list: without options", async () => {
  await filledShelf();
  const { blobs, hasMore } = await list();
  assert.ok(blobs.length > 0);
  assert.equal(typeof hasMore, "boolean");
});

test("list: by a prefix", async () => {
  const folder = await filledShelf();
  const page = await list({ prefix: folder });
  assert.deepEqual(below(folder, page.blobs), shelfNames);
  assert.equal(page.hasMore, false);
  assert.ok(!("folders" in page));
});

test("list: tells of a blob what head tells", async () => {
  const folder = await filledShelf();
  for (const blob of (await list({ prefix: folder })).blobs) {
    const { url, downloadUrl, pathname, size, uploadedAt, etag } = await head(blob.url);
    assert.deepEqual(blob, { url, downloadUrl, pathname, size, uploadedAt, etag });
  }
});

test("list: a prefix may end within a name", async () => {
  const folder = await filledShelf();
  const { blobs } = await list({ prefix: `${folder}sub` });
  assert.deepEqual(below(folder, blobs), ["sub/4.txt", "sub/5.txt", "sub2/x/6.txt"]);
});

test("list: limit and cursor give every blob once, by pathname", async () => {
  const folder = await filledShelf();
  const { count, blobs } = await walk({ prefix: folder, limit: 2 });
  assert.equal(count, 3);
  assert.deepEqual(below(folder, blobs), shelfNames);
});

test("list: folded, and again in a folder that it names", async () => {
  const folder = await filledShelf();
  const page = await list({ prefix: folder, mode: "folded" });
  assert.deepEqual(below(folder, page.blobs), ["1.txt", "2.txt", "3.txt"]);
  assert.deepEqual(below(folder, page.folders), ["sub/", "sub2/"]);
  const sub = await list({ prefix: page.folders[0], mode: "folded" });
  assert.deepEqual(below(folder, sub.blobs), ["sub/4.txt", "sub/5.txt"]);
  assert.deepEqual(sub.folders, []);
});

test("list: folded with a limit", async () => {
  const folder = await filledShelf();
  const { count, blobs, folders } = await walk({ prefix: folder, mode: "folded", limit: 2 });
  assert.equal(count, 3);
  assert.deepEqual(below(folder, blobs), ["1.txt", "2.txt", "3.txt"]);
  assert.deepEqual(below(folder, folders), ["sub/", "sub2/"]);
});

test("list: of nothing", async () => {
  const page = await list({ prefix: fresh("nothing/"), mode: "folded" });
  assert.deepEqual(page, { blobs: [], folders: [], hasMore: false, cursor: undefined });
});

test("put: what was aborted is not stored later either", async () => {
  const { blobs } = await list({ prefix: `${root}/` });
  assert.ok(blobs.every((blob) => !blob.pathname.endsWith("/aborted.bin")));
});

test("del: everything that these tests made", deleteEverything);
