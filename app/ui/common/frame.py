"""The frame of all pages: their looks, with little room above the first picture, the browser's Back, its theme."""

from pathlib import Path

import streamlit as st

_STYLE = """
<style>
.st-key-scripts { display: none; }
/* What is about to be drawn anew can be read meanwhile. */
[data-stale=true] { opacity: 1 !important; }
/* Pointed at, the accent would be on a fifth of itself: 3.9 : 1 in dark. */
[data-variant=segmented_control][data-selected=true]:hover { background-color: transparent !important; }
/* White on the accent would be 3.6 : 1 in dark. */
[data-testid=stMultiSelectTagsContainer] > span > span { background-color: transparent !important;
  box-shadow: inset 0 0 0 1px currentColor; }
[data-testid=stMultiSelectTagsContainer] > span :is(span, button) { color: inherit !important; }
/* In light, the colours of parts of a command or of settings would be as low as 2.6 : 1. */
:is([data-testid=stCode] code, [data-testid=stJson]) * { color: inherit !important; }
/* White on the accent would be 3.6 : 1 in dark (theme.js says where it is). */
[data-dark] [data-testid^=stBaseButton-primary]:not(:disabled) { color: #0F1419; }
/* Without a line, the link that has the keyboard is a shade of grey. */
:is([data-testid=stSidebarNavLink], [data-testid=stPageLink] a):focus-visible { outline: 2px solid currentColor;
  outline-offset: -2px; }
/* Beside a box, a link to a page is as high as a button. */
[data-testid=stHorizontalBlock]:has(> * > [data-testid=stSelectbox]) > :has(> [data-testid=stPageLink]) {
  margin: 0 !important; }
[data-testid=stHorizontalBlock]:has(> * > [data-testid=stSelectbox]) [data-testid=stPageLink] a { min-height: 2.5rem;
  margin: 0; }
/* A card's formula and figure are a sign each beside its title; what a sign is called is seen when it is pointed at. */
[class*=st-key-signs-] { flex-wrap: nowrap; }
[class*=st-key-signs-] > :first-child { flex: 1; min-width: 0; }
[class*=st-key-signs-] > :not(:first-child) { flex: none; }
[class*=st-key-signs-] button { position: relative; overflow: visible; min-height: 1.75rem; padding: 0 0.25rem; }
[class*=st-key-signs-] button [data-testid=stMarkdownContainer] { position: absolute; right: 0; bottom: 100%;
  z-index: 1; padding: 0 0.4rem; border-radius: 4px; background: #3b4252; width: max-content !important;
  max-width: none; }
[class*=st-key-signs-] button:not(:hover, :focus-visible) [data-testid=stMarkdownContainer] { clip-path: inset(50%); }
[class*=st-key-signs-] button [data-testid=stMarkdownContainer] p { color: #fff; font-size: 0.8rem; overflow: visible; }
[class*=st-key-signs-] [data-testid=stPopoverButton] div[aria-hidden=true] { display: none; }
:not(.st-key-heading) > [data-testid=stElementContainer] > [data-testid=stHeading] [data-testid=stMarkdownContainer] {
  margin-bottom: -0.5rem; }
@media (min-width: 900px) {
[data-testid=stMainBlockContainer] { padding: 0.75rem 1.5rem 2rem; }
[data-testid=stMainBlockContainer] h1 { font-size: 1.4rem; padding: 0; }
[data-testid=stHeader] { background: transparent; pointer-events: none; }
[data-testid=stHeader] * { pointer-events: none; }
[data-testid=stHeader] :is(button, a, button *, a *) { pointer-events: auto; }
}
@media (max-width: 899px) {
[data-testid=stMainBlockContainer] { padding-top: 3.5rem; padding-bottom: 2rem; }
[data-testid=stMainBlockContainer] h1 { font-size: 1.6rem; padding: 0; }
[data-testid=stButtonGroup], [data-testid=stButtonGroup] [role=radiogroup] {
  flex-wrap: wrap !important; overflow: visible; }
}
</style>
"""


_SCRIPTS = "".join(
    f"<script>{(Path(__file__).parent / name).read_text(encoding='utf-8')}</script>"
    for name in ("back.js", "theme.js", "copy.js")
)


def frame() -> None:
    """Set up the page's style, Back, copying, and reruns on a change of theme; called once, before drawing."""
    st.html(_STYLE)
    with st.container(key="scripts"):
        st.html(_SCRIPTS, unsafe_allow_javascript=True)
