const fs = require("fs");
const given = JSON.parse(fs.readFileSync(0, "utf8"));
// What the function prints is for people; what it returns is all that goes back.
console.log = console.info = console.debug = console.error;
const fail = (error) => {
  fs.writeSync(2, (error && error.stack) || String(error));
  process.exit(1);
};
process.on("uncaughtException", fail);
const find = new Function(
  "require", "module", "exports",
  given.code + "\n;return typeof main === 'function' ? main : module.exports.main;",
);
const module_ = { exports: {} };
const main = find(require, module_, module_.exports);
if (typeof main !== "function") fail("the code defines no function `main`");
Promise.resolve(main(given.arguments)).then((value) => {
  fs.writeSync(1, JSON.stringify(value === undefined ? null : value));
}).catch(fail);
