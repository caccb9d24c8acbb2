// openai-node: chat completions.
import OpenAI from "openai";
import { MODEL, MOST, failureOf, part, refused, tell, usage } from "./driver.mjs";

const mine = await part();
const clientOf = (apiKey) => new OpenAI({ baseURL: `${mine.url}/v1`, apiKey });
const client = clientOf(mine.key);
const tools = mine.tools.map((tool) => ({ type: "function", function: tool }));
const user = (content) => [{ role: "user", content }];
const counts = (given) => usage(given, "prompt_tokens", "completion_tokens");
const callsOf = (message) =>
  (message.tool_calls ?? []).map((call) => [call.function.name, JSON.parse(call.function.arguments)]);

async function plain() {
  const answer = await client.chat.completions.create({
    model: MODEL, messages: user(mine.texts.plain), max_tokens: MOST,
  });
  return { text: answer.choices[0].message.content, usage: counts(answer.usage) };
}

async function stream() {
  let text = "";
  let counted = null;
  const chunks = await client.chat.completions.create({
    model: MODEL, messages: user(mine.texts.plain), max_tokens: MOST, stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of chunks) {
    text += chunk.choices[0]?.delta.content ?? "";
    counted = chunk.usage ?? counted;
  }
  return { text, usage: counts(counted) };
}

async function toolsPlain() {
  const messages = user(mine.texts.tools);
  const asked = await client.chat.completions.create({ model: MODEL, messages, tools, max_tokens: MOST });
  const { message } = asked.choices[0];
  const results = message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "sunny" }));
  const answer = await client.chat.completions.create({
    model: MODEL, messages: [...messages, message, ...results], tools, max_tokens: MOST,
  });
  const then = { text: answer.choices[0].message.content, usage: counts(answer.usage) };
  return { calls: callsOf(message), usage: counts(asked.usage), then };
}

// Through the client's own accumulator.
async function toolsStream() {
  const runner = client.chat.completions.stream({
    model: MODEL, messages: user(mine.texts.tools), tools, max_tokens: MOST,
    stream_options: { include_usage: true },
  });
  const answer = await runner.finalChatCompletion();
  return { calls: callsOf(answer.choices[0].message), usage: counts(answer.usage) };
}

async function broken() {
  let text = "";
  try {
    const chunks = await client.chat.completions.create({
      model: MODEL, messages: user(mine.texts.broken), max_tokens: MOST, stream: true,
    });
    for await (const chunk of chunks) text += chunk.choices[0]?.delta.content ?? "";
  } catch (error) {
    return { text, failure: failureOf(error) };
  }
  return { text, failure: null };
}

async function leave() {
  const chunks = await clientOf(mine.leaving_key).chat.completions.create({
    model: MODEL, messages: user(mine.texts.left), max_tokens: MOST, stream: true,
  });
  let seen = 0;
  for await (const chunk of chunks) {
    seen += chunk ? 1 : 0;
    if (seen === 3) break;
  }
  return seen;
}

const ask = (key, model) =>
  clientOf(key).chat.completions.create({ model, messages: user("Why?"), max_tokens: MOST });

tell({
  plain: await plain(),
  stream: await stream(),
  tools: await toolsPlain(),
  tools_stream: await toolsStream(),
  broken: await broken(),
  left: await leave(),
  refusals: await refused(ask, mine),
});
