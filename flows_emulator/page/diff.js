// What an update changed: `oldValue` beside `value`, a row for each place that differs.
import { html } from "./vendor/htm-preact-standalone.js";
import { Name, parsed, visible } from "./text.js";

const MOST = 100;
const SHOWN = 300;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// The places at which two documents differ, as [path, old, new]; what isn't there is undefined.
export function differences(old, value, path = []) {
  if (!isObject(old) || !isObject(value)) {
    return JSON.stringify(old) === JSON.stringify(value) ? [] : [[path.join("."), old, value]];
  }
  const names = [...new Set([...Object.keys(old), ...Object.keys(value)])];
  return names.flatMap((name) => differences(old[name], value[name], [...path, name]));
}

function Value({ value, as }) {
  if (value === undefined) return html`<span class="quiet">not there</span>`;
  const text = JSON.stringify(value);
  return html`<${as}><bdi>${visible(text.slice(0, SHOWN))}${text.length > SHOWN ? "…" : ""}</bdi><//>`;
}

export function Diff({ body }) {
  const data = parsed(body)?.data;
  if (!isObject(data?.oldValue) || !isObject(data?.value)) return null;
  const found = differences(data.oldValue, data.value);
  return html`
    <h3>What has changed <span class="quiet">${found.length ? "" : "nothing"}</span></h3>
    ${found.length > 0 &&
    html`<table class="diff">
      <thead>
        <tr><th scope="col">Field</th><th scope="col">oldValue</th><th scope="col">value</th></tr>
      </thead>
      <tbody>
        ${found.slice(0, MOST).map(
          ([path, old, value]) => html`<tr key=${path}>
            <th scope="row"><${Name} text=${path.slice(0, SHOWN)} /></th>
            <td><${Value} value=${old} as="del" /></td>
            <td><${Value} value=${value} as="ins" /></td>
          </tr>`,
        )}
      </tbody>
    </table>`}
    ${found.length > MOST && html`<p class="quiet">and ${found.length - MOST} more</p>`}
  `;
}
