package message

import "strconv"

// AppendBodyStructure appends the parenthesised BODY (extended is false) or BODYSTRUCTURE of RFC 9051, 7.5.2, the
// latter with all extension fields. A text part without a charset is announced as us-ascii, the default of RFC 2046,
// 4.1.2.
func (p *Part) AppendBodyStructure(dst []byte, extended bool) []byte {
	dst = append(dst, '(')
	if p.Multipart() {
		dst = p.appendMultipart(dst, extended)
	} else {
		dst = p.appendLeaf(dst, extended)
	}
	return append(dst, ')')
}

func (p *Part) appendMultipart(dst []byte, extended bool) []byte {
	for _, child := range p.Children {
		dst = child.AppendBodyStructure(dst, extended)
	}
	if len(p.Children) == 0 {
		dst = emptyText(p.End()).AppendBodyStructure(dst, extended)
	}
	dst = append(dst, ' ')
	dst = appendString(dst, p.Subtype)
	if !extended {
		return dst
	}
	dst = append(dst, ' ')
	dst = appendParams(dst, p.Params)
	return p.appendExtension(dst)
}

// appendLeaf appends a part that is no multipart: body-type-basic, -msg or -text.
func (p *Part) appendLeaf(dst []byte, extended bool) []byte {
	dst = appendString(dst, p.Type)
	dst = append(dst, ' ')
	dst = appendString(dst, p.Subtype)
	dst = append(dst, ' ')
	if p.Type == "text" && !p.Params.has("charset") {
		dst = appendParams(dst, append(Params{{"charset", "us-ascii"}}, p.Params...))
	} else {
		dst = appendParams(dst, p.Params)
	}
	dst = append(dst, ' ')
	dst = appendNString(dst, p.ID)
	dst = append(dst, ' ')
	dst = appendNString(dst, p.Description)
	dst = append(dst, ' ')
	dst = appendString(dst, p.Encoding)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, p.BodySize, 10)
	switch {
	case p.Enclosed():
		dst = p.appendEnclosed(dst, extended)
	case p.Type == "text":
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, p.Lines, 10)
	}
	if !extended {
		return dst
	}
	dst = append(dst, ' ')
	dst = appendNString(dst, p.MD5)
	return p.appendExtension(dst)
}

// appendEnclosed appends envelope, structure and lines of an enclosed message.
func (p *Part) appendEnclosed(dst []byte, extended bool) []byte {
	env, child := p.Envelope, emptyText(p.End())
	if env == nil {
		env = &Envelope{}
	}
	if len(p.Children) > 0 {
		child = p.Children[0]
	}
	dst = append(dst, ' ')
	dst = env.AppendIMAP(dst)
	dst = append(dst, ' ')
	dst = child.AppendBodyStructure(dst, extended)
	dst = append(dst, ' ')
	return strconv.AppendInt(dst, p.Lines, 10)
}

// appendExtension appends disposition, language and location.
func (p *Part) appendExtension(dst []byte) []byte {
	dst = append(dst, ' ')
	if p.Disposition == "" {
		dst = append(dst, "NIL"...)
	} else {
		dst = append(dst, '(')
		dst = appendString(dst, p.Disposition)
		dst = append(dst, ' ')
		dst = appendParams(dst, p.DispositionParams)
		dst = append(dst, ')')
	}
	dst = append(dst, ' ')
	dst = appendLanguages(dst, p.Language)
	dst = append(dst, ' ')
	return appendNString(dst, p.Location)
}

// appendLanguages appends body-fld-lang: always a list if there is any.
func appendLanguages(dst []byte, tags []string) []byte {
	if len(tags) == 0 {
		return append(dst, "NIL"...)
	}
	for i, tag := range tags {
		dst = append(dst, "( "[min(i, 1)])
		dst = appendString(dst, tag)
	}
	return append(dst, ')')
}

func appendParams(dst []byte, params Params) []byte {
	if len(params) == 0 {
		return append(dst, "NIL"...)
	}
	for i, p := range params {
		dst = append(dst, "( "[min(i, 1)])
		dst = appendString(dst, p.Name)
		dst = append(dst, ' ')
		dst = appendString(dst, p.Value)
	}
	return append(dst, ')')
}

// has reports whether there is a parameter with this name, plain or extended.
func (ps Params) has(name string) bool {
	for _, p := range ps {
		if p.Name == name || len(p.Name) == len(name)+1 && p.Name[:len(name)] == name && p.Name[len(name)] == '*' {
			return true
		}
	}
	return false
}
