"""The template of the HTML report: `page.html`, with `page.css` and `page.js` put into it."""
