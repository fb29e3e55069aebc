"use strict";
// What comes from either model, or from the log, is put on the page as text only.
const $ = (id) => document.getElementById(id);
const REASONS = {
  answer: "The device answered itself.",
  marker: "The policy called for the cloud.",
  no_answer: "The device ended without an answer.",
  too_long: "The prompt is too long for the device.",
  device_failed: "The device's model failed.",
  budget: "A hand-off was due, but the budget is spent. This is the device's own attempt; it is not sure.",
  offline: "A hand-off was due, but no cloud answered. This is the device's own attempt; it is not sure.",
  consent: "A hand-off was due, but the prompt stayed here. This is the device's own attempt; it is not sure.",
};
let abort = null, name = null, cases = [];

const headers = () => {
  const key = $("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
};

async function get(path) {
  const reply = await fetch(path, { headers: headers() });
  if (reply.status === 401) $("keybox").hidden = false;
  if (!reply.ok) throw new Error(await reason(reply));
  return reply.json();
}

async function reason(reply) {
  try { return (await reply.json()).error.message; } catch { return `status ${reply.status}`; }
}

function fact(label, value) {
  if (value === null || value === undefined) return;
  const box = document.createElement("div"), term = document.createElement("dt"), what = document.createElement("dd");
  term.textContent = label; what.textContent = value;
  box.append(term, what); $("facts").append(box);
}

function reset() {
  for (const id of ["device", "cloud", "handoff", "outcome"]) $(id).textContent = "";
  $("facts").replaceChildren();
  $("cloudbox").hidden = $("consent").hidden = true;
  document.querySelector(".device").classList.remove("void");
}

function take(chunk) {
  name = chunk.id || name;
  const told = chunk.edgekit || {}, delta = (chunk.choices[0] || {}).delta || {};
  if (told.side === "device") $("device").textContent += delta.content;
  else if (told.side === "cloud") { $("cloudbox").hidden = false; $("cloud").textContent += delta.content; }
  else if (told.event === "consent") askConsent(told);
  else if (told.event === "hand_off") {
    $("consent").hidden = true;
    $("cloudbox").hidden = false;
    document.querySelector(".device").classList.add("void");
    $("handoff").textContent = `Handed off to ${told.request.model} at ${told.server}.`;
  } else if (told.event === "restart") {
    $("consent").hidden = $("cloudbox").hidden = true;
    $("device").textContent = $("cloud").textContent = "";
    document.querySelector(".device").classList.remove("void");
    $("handoff").textContent = told.notice;
  } else if (told.route) finish(told);
}

function askConsent(told) {
  $("consent-where").textContent = `To ${told.request.model} at ${told.server}, exactly this:`;
  $("consent-text").textContent = told.request.messages.map((m) => `${m.role}: ${m.content}`).join("\n\n");
  $("consent").hidden = false;
  $("refuse").focus();
}

async function word(allow) {
  $("consent").hidden = true;
  await fetch(`v1/edgekit/consent/${encodeURIComponent(name)}`,
    { method: "POST", headers: headers(), body: JSON.stringify({ allow }) });
}

function finish(facts) {
  $("outcome").textContent = REASONS[facts.reason] || facts.reason;
  if (facts.notice && !$("handoff").textContent) $("handoff").textContent = facts.notice;
  fact("answered by", facts.route === "cloud" ? "the cloud" : "the device");
  fact("device", `${Math.round(facts.local_ms)} ms, ${facts.generated_tokens} tokens`);
  if (facts.cloud_ms !== null) fact("cloud", `${Math.round(facts.cloud_ms)} ms`);
  if (facts.cost_usd !== null) fact("cost", `$${facts.cost_usd.toFixed(6)}`);
  if (facts.marker_margin !== null) fact("marker margin", facts.marker_margin.toFixed(2));
}

async function ask(event) {
  event.preventDefault();
  reset();
  abort = new AbortController();
  $("send").disabled = true; $("stop").disabled = false;
  const body = { messages: [{ role: "user", content: $("prompt").value }], stream: true, edgekit: { events: true } };
  try {
    const reply = await fetch("v1/chat/completions",
      { method: "POST", headers: headers(), body: JSON.stringify(body), signal: abort.signal });
    if (reply.status === 401) $("keybox").hidden = false;
    if (!reply.ok) throw new Error(await reason(reply));
    await read(reply.body.pipeThrough(new TextDecoderStream()).getReader());
  } catch (error) {
    $("outcome").textContent = error.name === "AbortError" ? "Stopped." : `Failed: ${error.message}`;
    $("consent").hidden = true;
  }
  $("send").disabled = false; $("stop").disabled = true;
  refresh();
}

async function read(reader) {
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split("\n\n");
    held = lines.pop();
    for (const line of lines) if (line.startsWith("data: {")) take(JSON.parse(line.slice(6)));
  }
}

async function refresh() {
  try {
    const state = await get("v1/edgekit/state");
    $("where").textContent = state.cloud
      ? `${state.model} on the device; behind it ${state.cloud.model} at ${state.cloud.server}` +
        `${state.redacts ? ", what is private replaced" : ""}.`
      : `${state.model} on the device, and no cloud.`;
    const left = Object.entries(state.budget_left || {}).map(([limit, n]) => `${+n.toFixed(4)} left of ${limit}`);
    const cost = state.cost_usd ? `, $${state.cost_usd.toFixed(6)}` : "";
    $("budget").textContent = `${state.calls ?? 0} calls so far${cost}. ${left.length ? left.join(", ") : "No limit is set"}.`;
    if ($("bias").dataset.ready === undefined) { $("bias").value = state.marker_bias; $("bias").dataset.ready = ""; }
    const rows = (await get("v1/edgekit/log")).lines.reverse().map((line) => {
      const row = document.createElement("tr");
      const words = line.event === "sent" ? line.messages.at(-1).content.slice(0, 200) : line.event;
      for (const text of [line.at, words, line.server || "", line.cost_usd ?? ""]) {
        const cell = document.createElement("td"); cell.textContent = text; row.append(cell);
      }
      return row;
    });
    $("log").tBodies[0].replaceChildren(...rows);
  } catch (error) { $("budget").textContent = error.message; }
}

function slide() {
  const bias = Number($("bias").value), graded = cases.filter((each) => each.right !== null);
  const calls = (each) => each.called || (each.margin !== null && each.margin + bias > 0);
  const called = cases.filter(calls);
  const right = graded.filter((each) => calls(each) || each.right).length;
  $("bias-value").textContent = bias.toFixed(2);
  $("slide-says").textContent = `${called.length} of ${cases.length} recorded prompts would be handed over.` +
    (graded.length ? ` With a cloud that is always right, ${(100 * right / graded.length).toFixed(1)} % would be answered rightly.` : "");
  $("called").replaceChildren(...called.map((each) => {
    const item = document.createElement("li"); item.textContent = each.prompt; return item;
  }));
}

$("ask").addEventListener("submit", ask);
$("stop").addEventListener("click", () => abort && abort.abort());
$("allow").addEventListener("click", () => word(true));
$("refuse").addEventListener("click", () => word(false));
$("bias").addEventListener("input", slide);
$("key").addEventListener("change", refresh);
refresh().then(async () => {
  cases = (await get("v1/edgekit/cases")).cases;
  $("slide").hidden = cases.length === 0;
  slide();
}).catch(() => {});
