// A question that must be answered before something is lost.
import { html, useLayoutEffect, useRef } from "./vendor/htm-preact-standalone.js";

// Calls `answered(yes)` once; Esc and every other way out mean no.
export function Confirm({ title, text, yes, no, answered }) {
  const element = useRef(null);
  useLayoutEffect(() => element.current.showModal(), []);
  const close = (value) => element.current.close(value);
  return html`
    <dialog ref=${element} aria-labelledby="confirm-title" aria-describedby="confirm-text" onClose=${() => answered(element.current.returnValue === "yes")}>
      <h2 id="confirm-title">${title}</h2>
      <p id="confirm-text">${text}</p>
      <div class="row">
        <button type="button" autofocus onClick=${() => close("no")}>${no}</button>
        <button type="button" class="primary bad" onClick=${() => close("yes")}>${yes}</button>
      </div>
    </dialog>
  `;
}
