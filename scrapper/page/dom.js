/** Small helpers around the document. */

export const at = (id) => document.getElementById(id);

export function copyOf(template) {
  return at(template).content.firstElementChild.cloneNode(true);
}

/** A new element with these *properties* and *children*. */
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** One of the symbols at the top of the document. */
export function icon(name, more = "") {
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("class", `icon ${more}`);
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Returns a function that runs *work* once, soon, however often it is called meanwhile. */
export function soon(work, milliseconds) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      work();
    }, milliseconds);
  };
}
