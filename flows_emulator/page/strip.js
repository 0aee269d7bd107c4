// The newest deliveries at a glance: a bar each, as high as its answer took long, the oldest on the left.
// It is there before the first answer is, so that no answer moves what is below it.
import { html } from "./vendor/htm-preact-standalone.js";
import { time, visible } from "./text.js";

const BARS = 120;
const HEIGHT = 40;
const LEAST = 3;
// The scale is one of powers of ten, and ends where the slowest does, or here.
const SLOW = 100;

export function Strip({ rows, address }) {
  const shown = rows.filter(({ attempts }) => attempts > 0).slice(0, BARS).reverse();
  const took = shown.map(({ milliseconds }) => milliseconds).sort((a, b) => a - b);
  const [middle, slowest] = [took[Math.floor(took.length / 2)], took[took.length - 1]];
  const tall = (milliseconds) => LEAST + ((HEIGHT - LEAST) * Math.log1p(milliseconds)) / Math.log1p(Math.max(SLOW, slowest));
  const count = (state) => shown.filter((delivery) => delivery.state === state).length;
  const words = ["delivered", "pending", "failed"].filter(count).map((state) => `${count(state)} ${state}`);
  const summary = shown.length
    ? `The last ${shown.length}: ${words.join(", ")}; median ${middle.toFixed(1)} ms, slowest ${slowest.toFixed(1)} ms`
    : "No answer yet";
  const clock = (delivery) => (delivery ? time(delivery.created) : "–");
  return html`
    <figure class="strip">
      <svg viewBox=${`0 0 ${BARS} ${HEIGHT}`} height=${HEIGHT} preserveAspectRatio="none" role="img" aria-label=${summary}>
        ${shown.map(
          (delivery, index) => html`<${Bar}
            key=${delivery.id}
            delivery=${delivery}
            x=${BARS - shown.length + index}
            tall=${tall(delivery.milliseconds)}
            to=${address({ delivery: delivery.id })}
          />`,
        )}
      </svg>
      <figcaption class="quiet">
        <span>${clock(shown[0])}</span><span class="summary">${summary}</span><span>${clock(shown[shown.length - 1])}</span>
      </figcaption>
    </figure>
  `;
}

// For the mouse; the list below is the same for everybody.
function Bar({ delivery, x, tall, to }) {
  const { id, type, state, status, milliseconds } = delivery;
  return html`<rect class=${state} x=${x} y=${HEIGHT - tall} width="0.8" height=${tall} onClick=${() => (location.hash = to)}>
    <title>#${id} ${visible(type || "no event")}: ${status || "no answer"}, ${milliseconds.toFixed(1)} ms</title>
  </rect>`;
}
