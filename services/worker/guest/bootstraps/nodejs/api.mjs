// The Runtime API as a runtime uses it: one connection, kept.

import http from "node:http";

const BASE = "/2018-06-01/runtime";
const ERROR_TYPE = "Lambda-Runtime-Function-Error-Type";
const CAUSE_HEADER_BYTES = 65536;

export class RuntimeApi {
  constructor(address) {
    const [hostname, port] = address.split(":");
    // Two, since a streamed response may still be on its way while an error is told.
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
    this.target = { hostname, port, agent: this.agent };
  }

  call(method, path, body = null, headers = {}) {
    return new Promise((resolve, reject) => {
      const length = body === null ? {} : { "Content-Length": Buffer.byteLength(body) };
      const options = { ...this.target, method, path: BASE + path, headers: { ...length, ...headers } };
      const request = http.request(options, (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }),
        );
        response.on("error", reject);
      });
      request.on("error", reject);
      request.end(body);
    });
  }

  next() {
    return this.call("GET", "/invocation/next");
  }

  // Answers what the platform has against the response, or null.
  async respond(requestId, text) {
    const headers = { "Content-Type": "application/json" };
    const { status, body } = await this.call("POST", `/invocation/${requestId}/response`, text, headers);
    return status < 400 ? null : JSON.parse(body.toString()).errorMessage;
  }

  // A request whose body goes out as it is written. `done` resolves when the platform has taken it.
  stream(requestId, contentType) {
    const headers = {
      "Content-Type": contentType,
      "Lambda-Runtime-Function-Response-Mode": "streaming",
      "Transfer-Encoding": "chunked",
      Trailer: ["Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"],
    };
    const options = { ...this.target, method: "POST", path: `${BASE}/invocation/${requestId}/response`, headers };
    const request = http.request(options);
    request.done = new Promise((resolve, reject) => {
      request.on("response", (response) => {
        response.resume();
        response.on("end", () => resolve(response.statusCode));
      });
      request.on("error", reject);
    });
    request.done.catch(() => {}); // whoever waits for it is told
    return request;
  }

  fail(requestId, document) {
    return this.tell(`/invocation/${requestId}/error`, document);
  }

  cannotStart(document) {
    return this.tell("/init/error", document);
  }

  tell(path, document) {
    const headers = { "Content-Type": "application/vnd.aws.lambda.error+json", [ERROR_TYPE]: plain(document.errorType) };
    const cause = JSON.stringify({ working_directory: process.cwd(), exceptions: [{ type: document.errorType }] });
    if (cause.length < CAUSE_HEADER_BYTES) headers["Lambda-Runtime-Function-XRay-Error-Cause"] = plain(cause);
    return this.call("POST", path, JSON.stringify(document), headers);
  }
}

// What may stand in a header.
function plain(text) {
  return String(text).replace(/[^\x20-\x7e]/g, "?");
}
