// Text of others for a person: nothing in it is markup, nothing in it turns the page around, nothing is endless.
import { html, useState } from "./vendor/htm-preact-standalone.js";

const SHOWN = 20_000;
const PRETTY = 300_000;
const TAIL = 12;
// What can't be seen, and what changes the direction of what follows. Shown as JSON would escape it.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

export function visible(text) {
  return text.replace(UNSEEN, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// The document in a text that is not too long to be looked into; undefined where there is none.
export function parsed(text) {
  if (text.length > PRETTY) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function pretty(text) {
  const document = parsed(text);
  return document === undefined ? text : JSON.stringify(document, null, 2);
}

export function size(bytes) {
  if (bytes < 1_000) return `${bytes} B`;
  return bytes < 1_000_000 ? `${(bytes / 1_000).toFixed(1)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}

export function time(seconds) {
  const moment = new Date(seconds * 1000);
  const clock = moment.toLocaleTimeString("en-GB");
  const today = moment.toDateString() === new Date().toDateString();
  return today ? clock : `${moment.toLocaleDateString("en-GB", { day: "2-digit", month: "short" })} ${clock}`;
}

// A path or an id on one line, shortened in its middle where there is no room: how it ends tells it from others.
// The whole text is there, to be hovered, copied and read aloud.
export function Middle({ text }) {
  const shown = visible(text);
  const head = shown.slice(0, -TAIL);
  return html`<bdi class="middle" title=${shown}>${head && html`<span>${head}</span>`}${shown.slice(-TAIL)}</bdi>`;
}

// A name that may be broken after its dots and underscores, and nowhere else unless it is endless.
export function Name({ text }) {
  return html`<bdi>${visible(text).split(/(?<=[._])/).map((part, index) => (index ? [html`<wbr />`, part] : part))}</bdi>`;
}

export function Body({ text, label }) {
  const [whole, setWhole] = useState(false);
  const [asSent, setAsSent] = useState(false);
  if (!text) return html`<p class="quiet">No body.</p>`;
  const chosen = asSent ? text : pretty(text);
  const shown = whole ? chosen : chosen.slice(0, SHOWN);
  return html`
    <pre class="code" tabindex="0" role="region" aria-label=${label} dir="ltr">${visible(shown)}</pre>
    <div class="row">
      ${shown.length < chosen.length &&
      html`<button type="button" onClick=${() => setWhole(true)}>Show all (${size(chosen.length)})</button>`}
      ${pretty(text) !== text &&
      html`<label class="check">
        <input type="checkbox" checked=${asSent} onChange=${(event) => setAsSent(event.target.checked)} />
        as it went over the wire
      </label>`}
    </div>
  `;
}
