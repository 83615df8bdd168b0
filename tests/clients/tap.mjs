// Looks at every frame between a client and the gateway, whichever WebSocket the client brings.
import WebSocket from "ws";

/** One connection as it was seen. */
class Connection {
  methods = new Map();
  frames = [];
  seq = 0;
  constructor(tap, drop) {
    this.tap = tap;
    this.drop = drop;
  }
  sent(text) {
    try {
      const frame = JSON.parse(text);
      if (frame.type === "req") this.methods.set(frame.id, frame.method);
    } catch {
      // Scripts also send what is not JSON.
    }
  }
  received(text) {
    const frame = JSON.parse(text);
    this.frames.push(frame);
    this.tap.frames += 1;
    const method = this.methods.get(frame.id);
    for (const what of this.tap.check(frame, method)) {
      this.tap.wrong.push(`${frame.event ?? `response to ${method}`}: ${what}`);
    }
    if (frame.type === "event" && frame.event !== "connect.challenge") {
      this.seq += 1;
      if (frame.seq !== this.seq) this.tap.wrong.push(`${frame.event} has seq ${frame.seq}, expected ${this.seq}`);
    }
  }
}

/** Watches all sockets that are opened from now on. `check(frame, method)` gives what is wrong with a frame. */
export class Tap {
  connections = [];
  wrong = [];
  frames = 0;
  constructor(check) {
    this.check = check;
  }

  /** Sockets of the package `ws`. */
  watchPackage() {
    const tap = this;
    const seen = new WeakMap();
    const of = (socket) => {
      if (!seen.has(socket)) {
        seen.set(socket, new Connection(tap, () => socket.terminate()));
        tap.connections.push(seen.get(socket));
      }
      return seen.get(socket);
    };
    const { emit, send } = WebSocket.prototype;
    WebSocket.prototype.emit = function (name, ...args) {
      if (name === "message") of(this).received(args[0].toString());
      return emit.call(this, name, ...args);
    };
    WebSocket.prototype.send = function (data, ...args) {
      of(this).sent(data.toString());
      return send.call(this, data, ...args);
    };
    return this;
  }

  /** Sockets of the platform. */
  watchPlatform() {
    const tap = this;
    globalThis.WebSocket = class extends globalThis.WebSocket {
      constructor(...args) {
        super(...args);
        this.seen = new Connection(tap, () => this.close());
        tap.connections.push(this.seen);
        this.addEventListener("message", ({ data }) => this.seen.received(data));
      }
      send(data) {
        this.seen.sent(data);
        super.send(data);
      }
    };
    return this;
  }

  /** The latest connection. */
  get last() {
    return this.connections.at(-1);
  }

  /** Throws when any frame was not as it must be. */
  verify() {
    if (this.frames === 0) throw new Error("no frame was seen");
    if (this.wrong.length > 0) {
      throw new Error(`${this.wrong.length} findings in ${this.frames} frames:\n${[...new Set(this.wrong)].slice(0, 30).join("\n")}`);
    }
  }
}
