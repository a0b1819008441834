// Runs code for the hub in one context that is kept (see guest/interpreter.rs). The
// inspector's REPL mode lets `await` stand anywhere and names be declared again.
(() => {
    const fs = require("node:fs");
    const { Readable } = require("node:stream");
    const { inspect } = require("node:util");
    const { Session } = require("node:inspector");
    const requests = Number(process.env.NEURALHUB_REQUESTS);
    const results = Number(process.env.NEURALHUB_RESULTS);
    delete process.env.NEURALHUB_REQUESTS;
    delete process.env.NEURALHUB_RESULTS;
    globalThis.require = require("node:module").createRequire(process.cwd() + "/");

    const tell = (value) => {
        let line = Buffer.from(JSON.stringify(value) + "\n");
        while (line.length > 0) line = line.subarray(fs.writeSync(results, line));
    };
    const session = new Session();
    session.connect();
    const post = (method, parameters) =>
        new Promise((resolve, reject) =>
            session.post(method, parameters, (error, answer) => (error ? reject(error) : resolve(answer))));

    const shown = Symbol("shown");
    globalThis[shown] = (value, isResult) => {
        const data = { "text/plain": inspect(value) };
        tell({ artifact: { is_result: isResult, data } });
    };
    globalThis.display = (...values) => values.forEach((value) => globalThis[shown](value, false));
    Object.defineProperty(globalThis, "__neuralhub_shown", { value: globalThis[shown] });
    Object.defineProperty(globalThis, "__neuralhub_print", {
        value: (error) => process.stderr.write((error instanceof Error ? error.stack : "Uncaught " + inspect(error)) + "\n"),
    });
    const call = (objectId, name, value) =>
        post("Runtime.callFunctionOn", {
            functionDeclaration: `function (value) { ${name}(value, true); }`,
            arguments: [objectId === undefined ? { value } : { objectId }],
            executionContextId: 1,
        });

    const run = async (code) => {
        const { result, exceptionDetails } = await post("Runtime.evaluate", {
            expression: code,
            replMode: true,
            awaitPromise: true,
            userGesture: true,
        });
        const thrown = exceptionDetails?.exception;
        if (exceptionDetails) {
            if (thrown?.objectId === undefined && thrown?.value === undefined) {
                process.stderr.write(`${exceptionDetails.text}\n`);
            } else {
                await call(thrown.objectId, "__neuralhub_print", thrown.value);
            }
            return 1;
        }
        if (result.type !== "undefined") {
            const special = result.unserializableValue;
            if (special === undefined) await call(result.objectId, "__neuralhub_shown", result.value);
            else tell({ artifact: { is_result: true, data: { "text/plain": special } } });
        }
        return 0;
    };

    process.on("uncaughtException", (error) => globalThis.__neuralhub_print(error));
    let pending = Buffer.alloc(0);
    const texts = [];
    const input = fs.createReadStream("", { fd: requests, autoClose: false });
    let busy = false;
    const next = async () => {
        if (busy || texts.length < 2) return;
        busy = true;
        const [code, given] = texts.splice(0, 2);
        Object.defineProperty(process, "stdin", { configurable: true, value: Readable.from(given ? [Buffer.from(given)] : []) });
        const exitCode = await run(code).catch((error) => {
            globalThis.__neuralhub_print(error);
            return 1;
        });
        // What was written waits while the pipe is full.
        for (const stream of [process.stdout, process.stderr]) {
            await new Promise((written) => stream.write("", written));
        }
        tell({ exit_code: exitCode });
        busy = false;
        next();
    };
    input.on("data", (chunk) => {
        pending = Buffer.concat([pending, chunk]);
        for (let end = pending.indexOf(0); end >= 0; end = pending.indexOf(0)) {
            texts.push(pending.subarray(0, end).toString());
            pending = pending.subarray(end + 1);
        }
        next();
    });
    input.on("end", () => process.exit(0));
})();
