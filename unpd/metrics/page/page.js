// Keeps the status page of unpd up to date: fetches the page once a second and takes over
// what has changed. The server renders all of it, so nothing here knows a number. Focus,
// selection and scrolling stay where they are, because unchanged elements stay.
"use strict";

const PERIOD_MS = 1000;
const LONGEST_ANSWER_MS = 5000;
const button = document.getElementById("pause");
const lost = document.getElementById("lost");
let paused = false;
let answeredAt = new Date();

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
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((node, at) => {
    if (at < before.length) renew(before[at], node);
    else old.append(document.importNode(node, true));
  });
  before.slice(after.length).forEach((node) => node.remove());
}

function takeOver(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const selector of ["h1", "header dl", ".as-of time", "main"]) {
    renew(document.querySelector(selector), fresh.querySelector(selector));
  }
  document.title = fresh.title;
}

function showLost(isLost) {
  if (isLost && lost.hidden) {
    const since = answeredAt.toISOString().slice(0, 19) + "Z";
    lost.textContent = `unpd has not answered this page since ${since}. The numbers are old.`;
  }
  lost.hidden = !isLost;
}

async function update() {
  if (!paused && !document.hidden) {
    try {
      const answer = await fetch(location.pathname, {
        cache: "no-store", signal: AbortSignal.timeout(LONGEST_ANSWER_MS),
      });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const text = await answer.text();
      if (!paused) takeOver(text);
      answeredAt = new Date();
      showLost(false);
    } catch {
      showLost(true);
    }
  }
  setTimeout(update, PERIOD_MS);
}

button.hidden = false;
button.addEventListener("click", () => {
  paused = !paused;
  button.setAttribute("aria-pressed", String(paused));
});
setTimeout(update, PERIOD_MS);
