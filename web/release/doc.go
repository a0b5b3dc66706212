// Package release has the pages for people who hold a signed link: senders who were asked whether a person wrote
// ("/challenge/TOKEN"), and readers of a digest who want a message out of Junk ("/release/TOKEN").
//
// Nobody needs to be logged in: the link is the right. Programs open links, so a GET changes nothing: it shows a
// form, and a POST of that does. What a link is for is in its token ([Links]), signed with a key that all nodes share, so
// any node answers.
//
// The page of a challenge asks a little work of the browser, which an ES module does. Without script the button leads to
// a page that says to wait and press again: the time is the proof then, signed into the form.
package release
