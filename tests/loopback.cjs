// Loaded before a Node server that binds every interface: whatever port it asks
// for, it gets it on 127.0.0.1 only (node -r loopback.cjs server.js).
const net = require("net");

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...args) {
  const [first] = args;
  if (first && typeof first === "object" && first.port !== undefined && !first.path) {
    return listen.call(this, { ...first, host: "127.0.0.1" }, ...args.slice(1));
  }
  if (typeof first === "number" || /^\d+$/.test(String(first))) {
    const ready = args.find((arg) => typeof arg === "function");
    return listen.call(this, { port: Number(first), host: "127.0.0.1" }, ...(ready ? [ready] : []));
  }
  return listen.apply(this, args);
};
