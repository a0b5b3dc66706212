// Package web is the shell around everything that is served over HTTP.
//
// A [Server] is made of a [Config] and serves any number of listeners, with TLS
// and without. To anybody it says how the node is (/healthz, /readyz, /metrics), answers
// authorities that prove a name, and tells clients and servers what a hosted domain
// offers ([Directory]): MTA-STS policy, autoconfig, autodiscover, Apple profiles.
//
// To people it shows pages, and these are made with the [Shell]. A room of the web
// mounts its pages on it: a pattern, who may see it ([Access]), and a [Handler] that
// gets the [Visit] with the account that is logged in, and renders a [View] of a
// template within the layout. The shell does the rest, the same for all: sessions
// in the replicated state, so that any node serves any browser; logging in through
// package auth; a policy that allows nothing inline and nothing from elsewhere;
// refusing what other sites' pages send; assets under hashed names; the languages of the
// catalogues in messages/; errors as pages; streams of events ([Shell.MountEvents]). All of it works without
// script, and is livelier with it. DESIGN.md has the conventions: parts, components, tokens, modules, texts.
//
//	shell.AddNav(web.NavItem{Path: "/mail", Label: "mail.title", Role: web.User})
//	page, err := shell.Page(templates, "templates/list.html") // defines "content"
//	shell.Mount("GET /mail", web.Access{Role: web.User}, func(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
//		return shell.Render(w, r, v, web.View{Title: "mail.title", Page: page, Data: list})
//	})
package web
