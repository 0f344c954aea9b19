// Keeps the status page of unpd up to date: fetches the page once a second, or twice a
// minute while nobody sees it, and takes over what has changed. The server renders all of
// it, so nothing here knows a number. Focus, selection and scrolling stay where they are,
// because unchanged elements stay, and rows are found again by their keys.
"use strict";

const PERIOD_MS = 1000;
const HIDDEN_MS = 30000;
const LONGEST_ANSWER_MS = 5000;
const button = document.getElementById("pause");
const lost = document.getElementById("lost");
let paused = false;
let asking = false;
let timer = 0;

const keyOf = (node) => (node.dataset ? node.dataset.key : undefined);

// Makes `old` like `fresh`, and touches only what differs.
function renew(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of old.getAttributeNames()) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  renewChildren(old, fresh);
}

// Does the same with what is below. A node with a key is found by it, another one by its
// place.
function renewChildren(old, fresh) {
  const wanted = new Set(Array.from(fresh.childNodes, keyOf));
  const known = new Map();
  for (const node of [...old.childNodes]) {
    const key = keyOf(node);
    if (key === undefined) continue;
    if (wanted.has(key)) known.set(key, node);
    else node.remove();
  }
  let at = old.firstChild;
  for (const node of fresh.childNodes) {
    const key = keyOf(node);
    const same = key === undefined ? (at && keyOf(at) === undefined ? at : null) : known.get(key);
    if (!same) {
      old.insertBefore(document.importNode(node, true), at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    renew(same, node);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function setTitle(words) {
  document.title = `${words} - ${location.host}`;
}

function takeOver(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  if (fresh.documentElement.dataset.version !== document.documentElement.dataset.version) {
    location.reload();
    return;
  }
  for (const selector of ["h1", "header dl", ".as-of time", "main"]) {
    renew(document.querySelector(selector), fresh.querySelector(selector));
  }
  setTitle(fresh.title);
}

// Says above everything else why the numbers are old; "" if they are not.
function warn(text) {
  if (lost.textContent !== text) lost.textContent = text;
  lost.hidden = !text;
}

async function fetchPage() {
  const controller = new AbortController();
  const limit = setTimeout(() => controller.abort(), LONGEST_ANSWER_MS);
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", signal: controller.signal });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return await answer.text();
  } finally {
    clearTimeout(limit);
  }
}

async function ask() {
  const shown = document.querySelector(".as-of time").textContent;
  let text;
  try {
    text = await fetchPage();
  } catch {
    warn(`unpd has not answered this page since ${shown}. The numbers are old.`);
    return;
  }
  if (paused) return;
  try {
    takeOver(text);
    warn("");
  } catch (error) {
    warn(`This page cannot show what unpd answers: load it again. (${error})`);
  }
}

async function update() {
  clearTimeout(timer);
  if (paused || asking) return;
  asking = true;
  await ask();
  asking = false;
  timer = setTimeout(update, document.hidden ? HIDDEN_MS : PERIOD_MS);
}

button.hidden = false;
button.addEventListener("click", () => {
  paused = !paused;
  button.textContent = paused ? "Resume" : "Pause";
  update();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) update();
});
setTitle(document.title);
timer = setTimeout(update, PERIOD_MS);
