// The console that handlers write to: lines with time, request id and level, as text or JSON.
// Records go through the platform's pipe whole, or to standard output where there is none.

import fs from "node:fs";
import { format } from "node:util";
import { loggable } from "./errors.mjs";

const LEVELS = { TRACE: 1, DEBUG: 2, INFO: 3, WARN: 4, ERROR: 5, FATAL: 6 };
const TEXT_FRAME = 0xa55a0003;
const JSON_FRAME = 0xa55a0002;

export function patchConsole(requestId, tenantId) {
  const json = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";
  const least = json ? (LEVELS[process.env.AWS_LAMBDA_LOG_LEVEL] ?? LEVELS.INFO) : 0;
  const descriptor = Number(process.env._LAMBDA_TELEMETRY_LOG_FD);
  delete process.env._LAMBDA_TELEMETRY_LOG_FD;
  const frame = json ? JSON_FRAME : TEXT_FRAME;

  function write(line) {
    if (!Number.isInteger(descriptor) || descriptor <= 0) {
      fs.writeSync(1, `${line.replace(/\n/g, "\r")}\n`);
      return;
    }
    const text = Buffer.from(line);
    const head = Buffer.alloc(16);
    head.writeUInt32BE(frame, 0);
    head.writeUInt32BE(text.length, 4);
    head.writeBigUInt64BE(BigInt(Date.now()) * 1000n, 8);
    const record = Buffer.concat([head, text]);
    for (let sent = 0; sent < record.length; ) sent += fs.writeSync(descriptor, record, sent);
  }

  function emit(level, args) {
    if (LEVELS[level] < least) return;
    const time = new Date().toISOString();
    if (!json) {
      write(`${time}\t${requestId()}\t${level}\t${format(...args)}`);
      return;
    }
    const record = { timestamp: time, level, requestId: requestId() ?? undefined, tenantId: tenantId() };
    const error = args.find((value) => value instanceof Error);
    record.message = args.length === 1 && typeof args[0] === "object" && !error ? args[0] : format(...args);
    if (error) {
      const { errorType, errorMessage, stack } = loggable(error);
      Object.assign(record, { errorType, errorMessage, stackTrace: stack.slice(1) });
    }
    let line;
    try {
      line = JSON.stringify(record);
    } catch {
      line = JSON.stringify({ ...record, message: format(...args) });
    }
    write(line);
  }

  console.log = (...args) => emit("INFO", args);
  console.info = (...args) => emit("INFO", args);
  console.debug = (...args) => emit("DEBUG", args);
  console.trace = (...args) => emit("TRACE", args);
  console.warn = (...args) => emit("WARN", args);
  console.error = (...args) => emit("ERROR", args);
  console.fatal = (...args) => emit("FATAL", args);

  return {
    error(label, error) {
      if (json) emit("ERROR", [error instanceof Error ? error : format(error)]);
      else write(`${new Date().toISOString()}\t${requestId()}\tERROR\t${label} \t${JSON.stringify(loggable(error))}`);
    },
  };
}
