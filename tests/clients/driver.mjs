// What the drivers of the JavaScript clients share; see driver.py, whose words these are.
import { stdin, stdout } from "node:process";

export const MODEL = "sandbox";
export const MOST = 100; // output tokens

export async function part() {
  let read = "";
  for await (const chunk of stdin) read += chunk;
  return JSON.parse(read);
}

export function tell(told) {
  stdout.write(JSON.stringify(told));
}

export function usage(given, inputName = "input_tokens", outputName = "output_tokens") {
  return {
    input: given?.[inputName] ?? null,
    output: given?.[outputName] ?? null,
    credits: given?.credits ?? null,
    cost_usd: given?.cost_usd ?? null,
  };
}

export async function refused(ask, mine) {
  const told = {};
  for (const [name, { key, model }] of Object.entries(mine.refusals)) {
    const began = performance.now();
    try {
      await ask(key, model);
      told[name] = { kind: null };
    } catch (error) {
      told[name] = { ...failureOf(error), seconds: (performance.now() - began) / 1000 };
    }
  }
  return told;
}

// An error of one of the vendors' clients carries what stands under `error`; one of the AI SDK the whole body as text,
// one of the SDK's streams is that part itself, and one after several tries holds the last.
export function failureOf(failure) {
  const error = failure.lastError ?? failure;
  const given = error.responseBody ? JSON.parse(error.responseBody) : (error.error ?? error);
  const body = given.error ?? given;
  return {
    kind: error.constructor.name,
    status: error.status ?? error.statusCode ?? null,
    code: body.code ?? null,
    message: body.message,
    request_id: error.requestID ?? error.responseHeaders?.["x-request-id"] ?? null,
    hints: (body.metadata?.hints ?? []).map((hint) => hint.kind),
  };
}
