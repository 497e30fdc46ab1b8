package pipeline

import (
	"strings"

	"github.com/expr-lang/expr/ast"
)

// The library's operators panic at a missing value and know no end. So a checked expression is
// rewritten before it is compiled: operators and fields become calls of the functions below, which
// take a missing value for nil and count what they look at.

// rewriter is the visitor that puts calls in the place of nodes, from the leaves up.
type rewriter struct{}

func call(name string, args ...ast.Node) ast.Node {
	return &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: args}
}

func running() ast.Node { return &ast.IdentifierNode{Value: runName} }

// Visit rewrites one node.
func (rewriter) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.MemberNode:
		ast.Patch(node, call("$get", running(), n.Node, n.Property))
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			n.Node = call("$truth", n.Node)
			return
		}
		ast.Patch(node, call("$reckon", &ast.StringNode{Value: n.Operator}, &ast.IntegerNode{}, n.Node))
	case *ast.BinaryNode:
		rewriteBinary(node, n)
	case *ast.ConditionalNode:
		n.Cond = call("$truth", n.Cond)
	case *ast.CallNode:
		if id := n.Callee.(*ast.IdentifierNode); !strings.HasPrefix(id.Value, "$") {
			n.Arguments = append([]ast.Node{running()}, n.Arguments...)
		}
	case *ast.BuiltinNode:
		rewritePredicate(node, n)
	}
}

func rewriteBinary(node *ast.Node, n *ast.BinaryNode) {
	switch n.Operator {
	case "<", "<=", ">", ">=":
		ast.Patch(node, call("$order", running(), &ast.StringNode{Value: n.Operator}, n.Left, n.Right))
	case "==":
		ast.Patch(node, call("$equal", running(), n.Left, n.Right))
	case "!=":
		ast.Patch(node, &ast.UnaryNode{Operator: "!", Node: call("$equal", running(), n.Left, n.Right)})
	case "in":
		ast.Patch(node, call("$in", running(), n.Left, n.Right))
	case "+", "-", "*", "/", "%":
		ast.Patch(node, call("$reckon", &ast.StringNode{Value: n.Operator}, n.Left, n.Right))
	case "&&", "||", "and", "or":
		n.Left, n.Right = call("$truth", n.Left), call("$truth", n.Right)
	case "contains", "startsWith", "endsWith":
		n.Left, n.Right = call("$textual", running(), n.Left), call("$textual", running(), n.Right)
	case "matches":
		n.Left = call("$textual", running(), n.Left)
	}
}

func rewritePredicate(node *ast.Node, n *ast.BuiltinNode) {
	n.Arguments[0] = call("$walk", running(), n.Arguments[0])
	if n.Name == "sum" {
		list := n.Arguments[0]
		if len(n.Arguments) > 1 {
			list = &ast.BuiltinNode{Name: "map", Arguments: n.Arguments}
		}
		ast.Patch(node, call("$sum", running(), list))
		return
	}
	if len(n.Arguments) > 1 && n.Name != "map" {
		p := n.Arguments[1].(*ast.PredicateNode)
		p.Node = call("$truth", p.Node)
	}
}
