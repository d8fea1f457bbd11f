// Error documents as AWS's Node.js runtime makes them: {errorType, errorMessage, trace}.

export class RuntimeError extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

export function documentOf(error) {
  if (error instanceof Error || (error && typeof error === "object" && "stack" in error && "message" in error)) {
    const document = {
      errorType: String(error.name || error.constructor?.name || "Error"),
      errorMessage: String(error.message),
      trace: String(error.stack ?? "").split("\n"),
    };
    if (error.reason !== undefined) document.reason = documentOf(error.reason);
    return document;
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

// What the log shows of an error: the document with the error's own fields.
export function loggable(error) {
  if (!(error instanceof Error)) return documentOf(error);
  const own = {};
  for (const name of Object.keys(error)) if (name !== "name") own[name] = error[name];
  const { errorType, errorMessage, trace } = documentOf(error);
  return { errorType, errorMessage, ...own, stack: trace };
}
