// What makes open pages live: one stream of events, refreshed parts, countdowns, keys. Every page works without it.
"use strict";

const body = document.body;
const byId = (id) => document.getElementById(id);

function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min` + (s < 600 && s % 60 ? ` ${s % 60} s` : "");
  if (s < 172800) return `${Math.floor(s / 3600)} h` + (Math.floor(s / 60) % 60 ? ` ${Math.floor(s / 60) % 60} min` : "");
  return `${Math.floor(s / 86400)} days`;
}

function tick() {
  const now = Date.now();
  for (const time of document.querySelectorAll("[data-expires]")) {
    const left = (Date.parse(time.dataset.expires) - now) / 1000;
    time.textContent = span(left);
    time.classList.toggle("soon", left < 60);
  }
  for (const time of document.querySelectorAll("[data-since]")) time.textContent = span((now - Date.parse(time.dataset.since)) / 1000);
}

// --- parts that are asked for again -------------------------------------------------------------------------------

const waiting = new Map();

/** At once, then at most every 400 ms: a sync that drops thirty tables is no reason for thirty requests. */
function refresh(part) {
  if (!part || document.hidden && part.dataset.every) return;
  if (waiting.has(part)) { waiting.set(part, true); return; }
  waiting.set(part, false);
  const whole = !part.dataset.refresh.match(/\/list\?|\/state$/);
  const options = { target: part, swap: whole ? "outerHTML" : "innerHTML" };
  if (whole) options.select = `#${part.id}`;
  htmx.ajax("GET", part.dataset.refresh, options).catch(() => {}).then(() => setTimeout(() => {
    const again = waiting.get(part);
    waiting.delete(part);
    if (again) refresh(byId(part.id));
  }, 400));
}

function settle() {
  tick();
  const standing = document.querySelector("#standing .standing");
  const answer = byId("answer");
  if (standing && answer && answer.dataset.state === "pending" && standing.dataset.state !== "pending") {
    // Nothing can be answered any more; what was typed would be lost in an error.
    answer.replaceChildren();
    answer.dataset.state = standing.dataset.state;
  }
}
document.addEventListener("htmx:afterSwap", settle);

// --- events ---------------------------------------------------------------------------------------------------------

const WORDS = { pending: "waits", approved: "was approved", denied: "was denied", expired: "expired", withdrawn: "was withdrawn", abandoned: "was abandoned" };

function tell(event) {
  const word = WORDS[event.state];
  if (!word) return;
  const line = document.createElement("p");
  const link = document.createElement("a");
  link.href = `/holds/${event.id}`;
  link.textContent = `Hold ${event.id}`;
  line.append(link, ` ${word}${event.by ? ` by ${event.by}` : ""}: ${event.title}`);
  const told = byId("told");
  told.append(line);
  while (told.children.length > 3) told.firstChild.remove();
  setTimeout(() => line.remove(), 6000);
}

function count(pending) {
  const badge = byId("pending-count");
  if (!badge) return;
  badge.textContent = pending;
  badge.hidden = !pending;
  document.title = document.title.replace(/^(\(\d+\) )?/, pending ? `(${pending}) ` : "").replace(/ \(\d+\)(?= ·)/, "");
}

function listen() {
  const source = new EventSource(body.dataset.live);
  source.addEventListener("hello", (message) => {
    byId("offline").hidden = true;
    count(JSON.parse(message.data).pending);
    for (const part of document.querySelectorAll("[data-refresh]:not([data-every])")) refresh(part);
  });
  source.addEventListener("hold", (message) => {
    const event = JSON.parse(message.data);
    count(event.pending);
    tell(event);
    const standing = byId("standing");
    if (standing && Number(standing.dataset.hold) === event.id) refresh(standing);
    const list = byId("list");
    if (list && list.dataset.refresh.startsWith("/holds/list")) refresh(list);
  });
  source.addEventListener("error", () => {
    byId("offline").hidden = false;
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
  window.addEventListener("pagehide", () => source.close());
}

// --- keys -----------------------------------------------------------------------------------------------------------

function move(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step))].focus();
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  a: () => document.querySelector("#approve input:not([type=hidden])")?.focus(),
  d: () => document.querySelector("#deny input:not([type=hidden])")?.focus(),
  h: () => { location.href = "/holds"; },
  "/": () => document.querySelector("[role=search] input")?.focus(),
  "?": () => byId("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.matches("input, textarea, select")) { event.target.blur(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  const act = KEYS[event.key];
  if (act && !byId("keys").open) { event.preventDefault(); act(); }
});

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm || event.target.dataset.confirm;
  if (question && !confirm(question)) { event.preventDefault(); return; }
  // One click, one decision. Behind the submit, since a disabled button's value is not sent.
  if (event.target.method === "post") setTimeout(() => { for (const button of event.target.querySelectorAll("button")) button.disabled = true; });
});
window.addEventListener("pageshow", () => { for (const button of document.querySelectorAll("form button")) button.disabled = false; });

// --- dark or light --------------------------------------------------------------------------------------------------

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
const toggle = byId("theme");
if (toggle) {
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
  });
}

setInterval(tick, 1000);
setInterval(() => { for (const part of document.querySelectorAll("[data-every]")) if (Date.now() % (part.dataset.every * 1000) < 1000) refresh(part); }, 1000);
for (const part of document.querySelectorAll("[data-load]")) htmx.ajax("GET", part.dataset.load, { target: part, swap: "innerHTML" });
if (body.dataset.live) listen();
