// Package admin is the administration: pages below /admin.
//
// Its mental model is three types. [Operations] is what can be done: the operations of the commands, by the
// same names, so that there is one way to do a thing and one place that refuses it. A room is a page that shows what some of
// them answer. An action is a form of such a page: which operation it asks for, made from which fields, about whom.
//
// Administrators see everything. Somebody who administers domains sees those rooms that are about domains,
// and of them only what belongs to theirs; scope decides that for each room and each action, by what the
// operation is about and not by what the page shows.
package admin
