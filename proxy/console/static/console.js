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

/** Bring old's children to what fresh has, and keep every node that is in both: focus, scrolling and opened details stay. */
function keepChildren(old, fresh) {
  const named = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const candidate = next.id ? named.get(next.id) : at && !at.id ? at : null;
    if (!candidate || candidate.nodeName !== next.nodeName) { old.insertBefore(next, at); continue; }
    if (candidate === at) at = at.nextSibling;
    else old.insertBefore(candidate, at);
    keep(candidate, next);
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
}

function keep(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (!(old instanceof Element)) { old.data = fresh.data; return; }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !(name === "open" && old.matches("details"))) old.removeAttribute(name);
  keepChildren(old, fresh);
}

htmx.defineExtension("keep", {
  isInlineSwap: (style) => style === "keep",
  handleSwap(style, target, fragment) {
    if (style !== "keep") return false;
    const focused = document.activeElement;
    const place = rows().indexOf(focused);
    // A part comes alone, or within its page.
    keepChildren(target, (target.id && fragment.querySelector(`#${target.id}`)) || fragment);
    if (focused !== document.activeElement) {
      if (focused.isConnected) focused.focus({ preventScroll: true });
      else if (place >= 0) rows()[Math.min(place, rows().length - 1)]?.focus({ preventScroll: true });
    }
    return [];
  },
});

const waiting = new Map();

/** At once, then again when as much time has gone as it took: thirty drops are no reason for thirty requests. */
function refresh(part) {
  if (!part || document.hidden && part.dataset.every) return;
  if (waiting.has(part)) { waiting.set(part, true); return; }
  waiting.set(part, false);
  const began = Date.now();
  part.dataset.due = began + 1000 * (part.dataset.every || 0);
  htmx.ajax("GET", part.dataset.refresh, { target: part, source: part, swap: "keep" }).catch(() => {}).then(() => setTimeout(() => {
    const again = waiting.get(part);
    waiting.delete(part);
    if (again) refresh(byId(part.id));
  }, Math.min(1000, Math.max(50, Date.now() - began))));
}

function settle() {
  tick();
  const standing = document.querySelector("#standing .standing");
  const answer = byId("answer");
  if (standing && answer && answer.dataset.state === "pending" && standing.dataset.state !== "pending") {
    // Nothing can be answered any more; what was typed would be lost in an error.
    const inside = answer.contains(document.activeElement);
    answer.replaceChildren();
    answer.dataset.state = standing.dataset.state;
    if (inside) byId("main").focus({ preventScroll: true });
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

/** What this page does about what came over the stream, whichever page of the browser holds it. */
const heard = {
  hello({ pending, who, csrf }) {
    if (who !== body.dataset.who) { location.reload(); return; }
    // After a new sign-in elsewhere the forms here are of the new session.
    for (const field of document.querySelectorAll("input[name=csrf]")) field.value = csrf;
    body.dataset.csrf = csrf;
    byId("offline").hidden = byId("signed-out").hidden = true;
    body.dataset.connected = "";
    count(pending);
    for (const part of document.querySelectorAll("[data-refresh]")) refresh(part);
  },
  hold(event) {
    count(event.pending);
    tell(event);
    for (const part of document.querySelectorAll("[data-hold]")) if (Number(part.dataset.hold) === event.id) refresh(part);
    const list = byId("list");
    if (list && list.dataset.refresh.startsWith("/holds/list")) refresh(list);
  },
  wait() {},
  lost({ refused }) {
    delete body.dataset.connected;
    byId("signed-out").hidden = !refused;
    byId("offline").hidden = refused;
  },
};

/** Asks for the stream, again and again; returns what ends it. */
function stream(say) {
  let source, ended = false;
  const open = () => {
    if (ended) return;
    source = new EventSource(body.dataset.live);
    for (const kind of ["hello", "hold"]) source.addEventListener(kind, (message) => say(kind, JSON.parse(message.data)));
    source.addEventListener("error", () => {
      say("lost", { refused: false });
      if (source.readyState !== EventSource.CLOSED) return;
      // Refused, and a stream does not say why.
      setTimeout(open, 3000);
      const probe = new AbortController();
      fetch(body.dataset.live, { signal: probe.signal }).then((answer) => {
        probe.abort();
        say("lost", { refused: answer.status === 401 });
      }, () => {});
    });
  };
  const end = () => { ended = true; source.close(); };
  window.addEventListener("pagehide", end, { once: true });
  open();
  return end;
}

/**
 * One stream for all pages of a browser: it opens six connections to a host at most (HTTP/1.1), and with a stream for each the
 * seventh page would never load. Whoever has the lock holds it and passes on what comes; when that page goes, the next one does.
 * A phone puts pages that are not in sight to sleep, and they keep the lock: from one that does not answer it is taken.
 */
function listen() {
  if (!navigator.locks) { stream((kind, data) => heard[kind](data)); return; } // plain http from elsewhere than this machine
  const others = new BroadcastChannel("pghold");
  let end = null; // of the stream, where it is
  let last = null; // what a page that comes later is told
  let answered = false;
  const say = (kind, data) => {
    last = kind === "hold" ? last && [last[0], { ...last[1], pending: data.pending }] : [kind, data];
    heard[kind](data);
    others.postMessage([kind, data]);
  };
  const seek = (options) => navigator.locks.request("pghold-events", options, () => {
    last = null;
    end = stream(say);
    return new Promise(() => {});
  }).catch(() => { end?.(); end = null; seek({}); });
  others.addEventListener("message", ({ data: [kind, data] }) => {
    if (kind === "ask") { if (end) others.postMessage(last || ["wait", null]); return; }
    answered = true;
    heard[kind](data);
  });
  const ask = () => {
    if (end || document.hidden) return;
    answered = false;
    others.postMessage(["ask", null]);
    setTimeout(() => { if (!answered && !end && !document.hidden) seek({ steal: true }); }, 1500);
  };
  seek({});
  ask();
  document.addEventListener("visibilitychange", ask);
}

// --- keys -----------------------------------------------------------------------------------------------------------

const rows = () => [...document.querySelectorAll("[data-row]")];

function move(step) {
  const found = rows();
  if (!found.length) return;
  const at = found.indexOf(document.activeElement);
  found[at < 0 ? (step > 0 ? 0 : found.length - 1) : Math.min(found.length - 1, Math.max(0, at + step))].focus();
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
  if (event.target.method !== "post") return;
  event.submitter?.classList.add("busy");
  setTimeout(() => { for (const button of event.target.querySelectorAll("button")) button.disabled = true; });
});
window.addEventListener("pageshow", () => { for (const button of document.querySelectorAll("form button")) { button.disabled = false; button.classList.remove("busy"); } });

// --- dark or light (theme.js draws what was chosen before) ----------------------------------------------------------

const toggle = byId("theme");
if (toggle) {
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* then it lasts as long as the page */ }
  });
}

// --- the rest -------------------------------------------------------------------------------------------------------

setInterval(() => {
  tick();
  for (const part of document.querySelectorAll("[data-every]")) if (Date.now() >= Number(part.dataset.due || 0)) refresh(part);
}, 1000);
for (const part of document.querySelectorAll("[data-load]")) htmx.ajax("GET", part.dataset.load, { target: part, swap: "innerHTML" });

// The bar that leads to the forms on a phone has no use where they are in sight.
const jump = document.querySelector(".jump");
if (jump) {
  new IntersectionObserver((seen) => { jump.hidden = seen.some((one) => one.isIntersecting); }).observe(byId("approve"));
}
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

if (body.dataset.live) listen();
