// Vercel's AI SDK: its OpenAI-compatible provider, or Anthropic's; the word after the program's name says which.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { argv } from "node:process";
import { MODEL, MOST, failureOf, part, refused, tell, usage } from "./driver.mjs";

const mine = await part();
const baseURL = `${mine.url}/v1`;
const modelOf = {
  openai: (apiKey, model) => createOpenAICompatible({ name: "tollhouse", baseURL, apiKey, includeUsage: true })(model),
  anthropic: (apiKey, model) => createAnthropic({ baseURL, apiKey })(model),
}[argv[2]];
const model = modelOf(mine.key, MODEL);
const common = { model, maxOutputTokens: MOST };
const schemas = mine.tools.map(({ name, description, parameters }) => [
  name, { description, inputSchema: jsonSchema(parameters) },
]);
// Without `execute` the calls are only told; with it the SDK runs them and asks again.
const told = Object.fromEntries(schemas.map(([name, about]) => [name, tool(about)]));
const run = Object.fromEntries(schemas.map(([name, about]) => [name, tool({ ...about, execute: async () => "sunny" })]));
const callsOf = (calls) => calls.map((call) => [call.toolName, call.input]);

// The SDK's own counts, and the charge from the provider's usage, which it passes on as it came.
function counts(given) {
  const raw = given.raw ?? {};
  return { ...usage(raw), input: given.inputTokens, output: given.outputTokens };
}

async function plain() {
  const answer = await generateText({ ...common, prompt: mine.texts.plain });
  return { text: answer.text, usage: counts(answer.usage) };
}

async function stream() {
  let text = "";
  const answer = streamText({ ...common, prompt: mine.texts.plain });
  for await (const piece of answer.textStream) text += piece;
  return { text, usage: counts(await answer.usage) };
}

async function toolsPlain() {
  const answer = await generateText({ ...common, prompt: mine.texts.tools, tools: run, stopWhen: stepCountIs(3) });
  const [asked, then] = answer.steps;
  return {
    calls: callsOf(asked.toolCalls),
    usage: counts(asked.usage),
    then: { text: then.text, usage: counts(then.usage) },
  };
}

async function toolsStream() {
  const answer = streamText({ ...common, prompt: mine.texts.tools, tools: told });
  return { calls: callsOf(await answer.toolCalls), usage: counts(await answer.usage) };
}

// This SDK gives errors of a stream to a callback, and ends the stream.
async function broken() {
  let text = "";
  let failure = null;
  const answer = streamText({
    ...common,
    prompt: mine.texts.broken,
    onError: ({ error }) => {
      failure = failureOf(error);
    },
  });
  for await (const piece of answer.textStream) text += piece;
  return { text, failure };
}

async function leave() {
  const going = new AbortController();
  const answer = streamText({
    model: modelOf(mine.leaving_key, MODEL), maxOutputTokens: MOST, prompt: mine.texts.left,
    abortSignal: going.signal,
  });
  let seen = 0;
  for await (const piece of answer.textStream) {
    seen += piece ? 1 : 0;
    if (seen === 3) going.abort();
  }
  return seen;
}

const ask = (key, name) => generateText({ model: modelOf(key, name), maxOutputTokens: MOST, prompt: "Why?" });

tell({
  plain: await plain(),
  stream: await stream(),
  tools: await toolsPlain(),
  tools_stream: await toolsStream(),
  broken: await broken(),
  left: await leave(),
  refusals: await refused(ask, mine),
});
