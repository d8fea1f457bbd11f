// Response streaming: `awslambda.streamifyResponse` and `awslambda.HttpResponseStream`.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html

import { Writable } from "node:stream";

const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response";
const PRELUDE_END = Buffer.alloc(8); // eight zero bytes between the metadata and the body

export function installStreaming() {
  globalThis.awslambda = {
    streamifyResponse(handler) {
      handler[STREAMING] = "response";
      return handler;
    },
    HttpResponseStream: {
      from(stream, metadata) {
        stream.setContentType(PRELUDE_TYPE);
        stream.onBegin(() => Buffer.concat([Buffer.from(JSON.stringify(metadata)), PRELUDE_END]));
        return stream;
      },
    },
  };
}

export function isStreaming(handler) {
  return handler[STREAMING] === "response";
}

export class ResponseStream extends Writable {
  #open;
  #request = null; // null: nothing was written yet
  #type = "application/octet-stream";
  #prelude = null;

  constructor(open) {
    super();
    this.#open = open; // (content type) => a request whose body goes out as it is written
    this.on("error", () => {}); // whoever waits for the end is told
  }

  setContentType(type) {
    if (this.#request) throw new Error("Cannot set the content type: the response has begun");
    this.#type = type;
  }

  onBegin(make) {
    this.#prelude = make;
  }

  #begin() {
    if (this.#request) return;
    this.#request = this.#open(this.#type);
    this.#request.done.catch((error) => this.destroy(error));
    if (this.#prelude) this.#request.write(this.#prelude());
  }

  _write(chunk, encoding, done) {
    this.#begin();
    // No more is taken of the handler than the platform takes of us.
    if (this.#request.write(chunk)) done();
    else this.#request.once("drain", done);
  }

  _final(done) {
    this.#begin();
    this.#request.end();
    this.#request.done.then(() => done(), done);
  }

  // The handler has returned: wait until its stream has ended, which it may do later.
  finished() {
    if (this.writableFinished) return Promise.resolve();
    if (this.errored) return Promise.reject(this.errored);
    return new Promise((resolve, reject) => {
      this.once("finish", resolve);
      this.once("error", reject);
    });
  }

  // The handler has failed. False: nothing was written yet, so it can be told as any other error.
  async fail(document) {
    if (!this.#request) return false;
    this.#request.addTrailers({
      "Lambda-Runtime-Function-Error-Type": String(document.errorType).replace(/[^\x20-\x7e]/g, "?"),
      "Lambda-Runtime-Function-Error-Body": Buffer.from(JSON.stringify(document)).toString("base64"),
    });
    this.#request.end();
    await this.#request.done;
    return true;
  }
}
