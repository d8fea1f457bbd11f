// The Node.js runtime: `node bootstrap.mjs`. Asks the Runtime API for events, runs the handler, answers.
//
// Standard library only, Node.js 16 and newer. What handlers see (context, callbacks, console, error documents, response
// streaming) is what AWS's managed runtimes give them:
// https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html, nodejs-context.html, runtimes-api.html.

import { AsyncLocalStorage } from "node:async_hooks";
import { RuntimeApi } from "./api.mjs";
import { documentOf, RuntimeError } from "./errors.mjs";
import { loadHandler } from "./loading.mjs";
import { patchConsole } from "./logging.mjs";
import { installStreaming, isStreaming, ResponseStream } from "./streaming.mjs";

const invocation = new AsyncLocalStorage();
const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
const callbacks = Number(process.versions.node.split(".")[0]) < 24; // AWS's runtimes take none from Node.js 24 on
let current; // request id of the invocation that runs
let tenant; // whom the environment is for; undefined: the function keeps no tenants apart
const log = patchConsole(
  () => invocation.getStore()?.requestId ?? current,
  () => tenant,
);

function contextOf(headers, state) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const parsed = (name) => (headers[name] ? JSON.parse(Buffer.from(headers[name], "latin1").toString()) : undefined);
  tenant = headers["lambda-runtime-aws-tenant-id"];
  const context = {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parsed("lambda-runtime-client-context"),
    identity: parsed("lambda-runtime-cognito-identity"),
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    tenantId: tenant,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
  if (callbacks) {
    context.succeed = (value) => state.settle(null, value);
    context.fail = (error) => state.settle(error ?? "handled");
    context.done = (error, value) => (error ? context.fail(error) : context.succeed(value));
  }
  return context;
}

// Runs a handler of the ordinary kind; resolves to its result, whichever way it gives it.
function run(handler, event, context, state) {
  return new Promise((resolve, reject) => {
    let settled = false;
    const finish = (error, value) => {
      if (!settled) {
        settled = true;
        if (error === null || error === undefined) resolve(value);
        else reject(error);
      }
    };
    // context.succeed and its like end the invocation at once; a callback waits for an empty event loop if asked to.
    state.settle = finish;
    const callback = (error, value) => {
      if (!context.callbackWaitsForEmptyEventLoop) finish(error, value);
      else state.whenEmpty = () => finish(error, value);
    };
    const result = callbacks ? handler(event, context, callback) : handler(event, context);
    if (result && typeof result.then === "function") {
      // A promise may be rejected with nothing, and is rejected nevertheless.
      result.then((value) => finish(null, value), (error) => finish(error ?? "handled"));
      const text = "The handler's promise was not settled, and nothing is left that could settle it";
      state.whenEmpty ??= () => finish(new RuntimeError("Runtime.NodeJsExit", text));
    } else if (!callbacks || handler.length < 3) {
      // A plain function that takes no callback: what it returned is not its answer on AWS before Node.js 24.
      state.whenEmpty ??= () => finish(null, callbacks ? null : result);
    } else state.whenEmpty ??= () => finish(null, null);
  });
}

const states = { now: null };
// The event loop is empty: nothing that was begun is left, so an answer that waited for that is due. The poll of the
// Runtime API does not count, as it is begun after the answer.
process.on("beforeExit", () => {
  const due = states.now?.whenEmpty;
  if (due) {
    states.now.whenEmpty = null;
    due();
  }
});

async function serve(handler) {
  for (;;) {
    const { headers, body } = await api.next();
    const requestId = (current = headers["lambda-runtime-aws-request-id"]);
    if (headers["lambda-runtime-trace-id"]) process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"];
    else delete process.env._X_AMZN_TRACE_ID;
    const state = (states.now = { settle: () => {}, whenEmpty: null });
    await invocation.run({ requestId }, async () => {
      try {
        const context = contextOf(headers, state);
        const event = JSON.parse(body.toString("utf8") || "null");
        if (isStreaming(handler)) {
          const stream = new ResponseStream((type) => api.stream(requestId, type));
          try {
            await handler(event, stream, context);
            await stream.finished();
          } catch (error) {
            log.error("Invoke Error", error);
            const document = documentOf(error);
            if (!(await stream.fail(document))) await api.fail(requestId, document);
          }
          return;
        }
        const result = await run(handler, event, context, state);
        let text;
        try {
          text = JSON.stringify(result === undefined ? null : result) ?? "null";
        } catch (error) {
          throw new Error("Unable to stringify response body");
        }
        const refused = await api.respond(requestId, text);
        if (refused) log.error("Invoke Error", new Error(refused));
      } catch (error) {
        log.error("Invoke Error", error);
        await api.fail(requestId, documentOf(error));
      }
    });
    states.now = null;
  }
}

// Nobody awaited these: the process cannot be trusted to go on, as on AWS.
async function fatal(kind, label, error, status) {
  const shown = kind ? Object.assign(new Error(String(error?.stack ? error : error)), { name: kind, reason: error }) : error;
  log.error(label, shown);
  try {
    if (states.now) await api.fail(current, documentOf(shown));
    else await api.cannotStart(documentOf(shown));
  } finally {
    process.exit(status);
  }
}
process.on("unhandledRejection", (reason) =>
  fatal("Runtime.UnhandledPromiseRejection", "Unhandled Promise Rejection", reason, 128),
);
process.on("uncaughtException", (error) => fatal("", "Uncaught Exception", error, 129));

installStreaming();
let handler;
try {
  handler = await loadHandler(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
} catch (error) {
  log.error("Uncaught Exception", error);
  await api.cannotStart(documentOf(error));
  process.exit(1);
}
serve(handler).catch((error) => {
  process.stderr.write(`${error?.stack ?? error}\n`);
  process.exit(1);
});
