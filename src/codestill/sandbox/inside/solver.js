// The solver of a JavaScript program: holds it, and answers the judge's requests with data, as solver.py does.
// Argument: descriptors of the program, the requests and the answers. No test is ever seen here.
"use strict";
const fs = require("fs"), vm = require("vm");
const [given, requests, answers] = process.argv.slice(-3).map(Number);
const leave = process.reallyExit.bind(process);

function exactly(size) {
  const data = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const more = fs.readSync(requests, data, at, size - at, null);
    if (!more) leave(0);
    at += more;
  }
  return data;
}

function receive() {
  const head = exactly(5);
  return [String.fromCharCode(head[4]), exactly(head.readUInt32BE(0))];
}

function send(reply) {
  const body = Buffer.from(reply), head = Buffer.alloc(5);
  head.writeUInt32BE(body.length);
  head[4] = 74; // J
  for (const data of [head, body])
    for (let at = 0; at < data.length; ) at += fs.writeSync(answers, data, at);
}

// Values as wire.py has them: plain JSON, and an object with one key, the tag, for what JSON has no form for.
function encode(value) {
  if (value === null || value === undefined) return "null";
  if (Object.is(value, -0)) return "-0.0";
  if (typeof value === "number") return Number.isNaN(value) ? "NaN" : Number.isFinite(value) ? JSON.stringify(value) : value > 0 ? "Infinity" : "-Infinity";
  if (typeof value === "boolean" || typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `{"i":"${value < 0n ? "-" : ""}0x${(value < 0n ? -value : value).toString(16)}"}`;
  if (Array.isArray(value)) return `[${value.map(encode).join(",")}]`;
  if (value instanceof Set) return `{"s":[${[...value].map(encode).join(",")}]}`;
  const prototype = typeof value === "object" ? Object.getPrototypeOf(value) : undefined;
  if (value instanceof Map || prototype === Object.prototype || prototype === null) {
    const pairs = value instanceof Map ? [...value] : Object.entries(value);
    return `{"d":[${pairs.map(([k, v]) => `[${encode(k)},${encode(v)}]`).join(",")}]}`;
  }
  throw new TypeError(`${typeof value} is not data`);
}

function decode(form) {
  if (Array.isArray(form)) return form.map(decode);
  if (form === null || typeof form !== "object") return form;
  const [tag, body] = Object.entries(form)[0];
  if (tag === "t" || tag === "lt") return body.map(decode);
  if (tag === "i") return body[0] === "-" ? -BigInt(body.slice(1)) : BigInt(body);
  if (tag === "s" || tag === "z") return new Set(body.map(decode));
  if (tag === "d") {
    const pairs = body.map(([k, v]) => [decode(k), decode(v)]);
    return pairs.every(([k]) => typeof k === "string") ? Object.fromEntries(pairs) : new Map(pairs);
  }
  throw new Undecidable("an argument has no form in JavaScript");
}

// The tests need what cannot cross: no verdict, rather than a wrong one.
class Undecidable extends Error {}

function raised(error) {
  let name = "Error", message = "", line = null;
  try {
    name = String(error.name || "Error");
    message = String(error.message === undefined ? error : error.message).slice(0, 2000);
    line = Number(/solution:(\d+)/.exec(error.stack || "")[1]);
  } catch {}
  return JSON.stringify(["raise", [["builtins", name], ["builtins", "Exception"]], message, line]);
}

// The value, and the arguments where the call has changed them.
function call(f, args) {
  const before = args.map(encode), value = f(...args);
  let after;
  try {
    after = args.map(encode);
  } catch {
    throw new Undecidable("an argument is no longer data after the call");
  }
  const place = value !== null && typeof value === "object" ? args.indexOf(value) : -1;
  const kind = place < 0 ? `["ok",${encode(value)}` : `["same",${place}`;
  return after.some((text, n) => text !== before[n]) ? `${kind},[${after.join(",")}]]` : `${kind}]`;
}

const operations = {
  get: (value, [name]) => value[name],
  item: (value, [key]) => value[key],
  name: (value) => value,
  bool: (value) => Boolean(value),
  str: (value) => String(value),
  repr: (value) => String(value),
};

function answer(body) {
  try {
    const [operation, target, args, kwargs] = decode(JSON.parse(body));
    const called = operation === "call";
    if (!(called || Object.hasOwn(operations, operation)) || Object.keys(kwargs).length)
      throw new Undecidable("the tests ask for what a JavaScript program cannot do");
    const value = vm.runInThisContext(String(target));
    if (called) return call(value, args);
    return `["ok",${encode(operations[operation](value, args))}]`;
  } catch (error) {
    return error instanceof Undecidable ? JSON.stringify(["undecidable", error.message]) : raised(error);
  }
}

const [source, entry] = JSON.parse(fs.readFileSync(given, "utf8"));
fs.closeSync(given);
let ready;
try {
  vm.runInThisContext(source, { filename: "solution" });
  ready = JSON.stringify(["ready", vm.runInThisContext(`typeof ${entry}`) !== "undefined"]);
} catch (error) {
  ready = raised(error);
}
send(ready);
while (true) {
  const [kind, body] = receive();
  if (kind === "J") send(answer(body.toString()));
}
