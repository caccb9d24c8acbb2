// @anthropic-ai/sdk: messages and streams of them.
import Anthropic from "@anthropic-ai/sdk";
import { MODEL, MOST, failureOf, part, refused, tell, usage } from "./driver.mjs";

const mine = await part();
const clientOf = (apiKey) => new Anthropic({ baseURL: mine.url, apiKey });
const client = clientOf(mine.key);
const tools = mine.tools.map(({ parameters, ...tool }) => ({ ...tool, input_schema: parameters }));
const user = (content) => [{ role: "user", content }];
const textOf = (answer) => answer.content.map((block) => (block.type === "text" ? block.text : "")).join("");
const usesOf = (answer) => answer.content.filter((block) => block.type === "tool_use");
const callsOf = (answer) => usesOf(answer).map((use) => [use.name, use.input]);

async function plain() {
  const answer = await client.messages.create({ model: MODEL, messages: user(mine.texts.plain), max_tokens: MOST });
  return { text: textOf(answer), usage: usage(answer.usage) };
}

// The usage of the event that ends the message, where the charge stands.
async function stream() {
  let text = "";
  let counted = null;
  const events = client.messages.stream({ model: MODEL, messages: user(mine.texts.plain), max_tokens: MOST });
  for await (const event of events) {
    if (event.type === "content_block_delta") text += event.delta.text;
    if (event.type === "message_delta") counted = event.usage;
  }
  return { text, usage: usage(counted) };
}

async function toolsPlain() {
  const messages = user(mine.texts.tools);
  const asked = await client.messages.create({ model: MODEL, messages, tools, max_tokens: MOST });
  const results = usesOf(asked).map((use) => ({ type: "tool_result", tool_use_id: use.id, content: "sunny" }));
  const answer = await client.messages.create({
    model: MODEL, tools, max_tokens: MOST,
    messages: [...messages, { role: "assistant", content: asked.content }, { role: "user", content: results }],
  });
  const then = { text: textOf(answer), usage: usage(answer.usage) };
  return { calls: callsOf(asked), usage: usage(asked.usage), then };
}

// Through the client's own accumulator.
async function toolsStream() {
  const answer = await client.messages
    .stream({ model: MODEL, messages: user(mine.texts.tools), tools, max_tokens: MOST })
    .finalMessage();
  return { calls: callsOf(answer), usage: usage(answer.usage) };
}

async function broken() {
  let text = "";
  try {
    const events = client.messages.stream({ model: MODEL, messages: user(mine.texts.broken), max_tokens: MOST });
    for await (const event of events) if (event.type === "content_block_delta") text += event.delta.text;
  } catch (error) {
    return { text, failure: failureOf(error) };
  }
  return { text, failure: null };
}

async function leave() {
  const events = await clientOf(mine.leaving_key).messages.create({
    model: MODEL, messages: user(mine.texts.left), max_tokens: MOST, stream: true,
  });
  let seen = 0;
  for await (const event of events) {
    seen += event.type === "content_block_delta" ? 1 : 0;
    if (seen === 3) break;
  }
  return seen;
}

const ask = (key, model) => clientOf(key).messages.create({ model, messages: user("Why?"), max_tokens: MOST });

tell({
  plain: await plain(),
  stream: await stream(),
  tools: await toolsPlain(),
  tools_stream: await toolsStream(),
  broken: await broken(),
  left: await leave(),
  refusals: await refused(ask, mine),
});
